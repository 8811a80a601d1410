//go:build flarepanic

package main

// For capi/test/panic_test.c: flare_model_open("panic:") has a defect.
func init() {
	panicHook = func(path string) {
		if path == "panic:" {
			panic("on purpose")
		}
	}
}
