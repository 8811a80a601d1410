"""The module Flare: Widget (what the user sees) over SegmentationLogic (one run at a time) over
Task (the thread of a run) over Library and Engine (libflare)."""
