"""Runs a command and says what it took, and describes the machine. Linux; elsewhere the
memory is that of the command's own process only."""
import datetime
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

INTERVAL = 0.1  # seconds between looks at the memory


class Failed(Exception):
    """A command that did not end with 0; its text is what the command printed."""


def run(command, env=None):
    """Runs command and waits for it. The result has
    wall       seconds from the start of the process until it has ended
    cpu        processor seconds of it and the processes that it started and waited for
    largest    peak resident bytes of its largest process
    together   peak resident bytes of all its processes, what they share counted once
    output     what it printed
    """
    with tempfile.TemporaryFile() as output:
        begin = time.perf_counter()
        p = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                             env={**os.environ, **(env or {})}, start_new_session=True)
        watch = Watch(p.pid)
        _, status, usage = os.wait4(p.pid, 0)  # which, unlike Popen.wait, tells the process's peak
        wall = time.perf_counter() - begin
        watch.end()
        p.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if p.returncode:
        raise Failed(f"{' '.join(map(str, command))}\nended with {p.returncode} after printing\n{text[-4000:]}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return SimpleNamespace(wall=wall, cpu=usage.ru_utime + usage.ru_stime, largest=max(peak, watch.largest),
                           together=max(peak, watch.together), output=text)


class Watch(threading.Thread):
    """Looks at the processes of a session, which are a command and all that it started."""

    def __init__(self, session):
        super().__init__(daemon=True)
        self.session, self.largest, self.together, self.over = session, 0, 0, threading.Event()
        if os.path.exists("/proc/self/status"):
            self.start()

    def run(self):
        while not self.over.wait(INTERVAL):
            private, shared = 0, 0
            for status in self.processes():
                self.largest = max(self.largest, status.get("VmHWM", 0))
                private += status.get("RssAnon", 0)
                shared = max(shared, status.get("RssFile", 0) + status.get("RssShmem", 0))
            self.together = max(self.together, private + shared)

    def processes(self):
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                # After the command's name, in brackets: state, parent, group, session.
                stat = Path(f"/proc/{entry}/stat").read_text()
                if int(stat.rpartition(")")[2].split()[3]) != self.session:
                    continue
                text = Path(f"/proc/{entry}/status").read_text()
            except OSError:  # it has ended
                continue
            yield {k: 1024 * int(v) for k, v in re.findall(r"^(VmHWM|Rss\w+):\s+(\d+) kB", text, re.M)}

    def end(self):
        self.over.set()
        if self.ident:
            self.join()


def warm(*paths):
    """Brings files, and all files of folders, into the file cache."""
    for path in map(Path, paths):
        for file in [path] if path.is_file() else path.rglob("*"):
            if file.is_file():
                with open(file, "rb") as f:
                    while f.read(1 << 22):
                        pass


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def machine():
    """Pairs of what and its description."""
    cpu, flags, memory = platform.processor() or platform.machine(), set(), None
    try:
        info = Path("/proc/cpuinfo").read_text()
        cpu = re.search(r"^model name\s*: (.*)", info, re.M)[1]
        flags = set(re.search(r"^(?:flags|Features)\s*: (.*)", info, re.M)[1].split())
        memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) * 1024
    except (OSError, TypeError):
        if hasattr(os, "sysconf"):
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    units = [name for name, flag in (("AVX2", "avx2"), ("AVX-512", "avx512f"), ("AVX512-BF16", "avx512_bf16"), ("AMX-BF16", "amx_bf16"),
                                     ("NEON", "asimd"), ("BF16", "bf16")) if flag in flags]
    return [("processor", " ".join([cpu.strip(), *([f"({', '.join(units)})"] if units else [])])), ("cores", str(cores())),
            ("memory", f"{memory / 1e9:.1f} GB" if memory else "unknown"), ("system", f"{platform.system()} {platform.release()}"),
            ("date", datetime.date.today().isoformat())]


def busy():
    """The load of the last minute, if it would disturb measurements, else None."""
    load = os.getloadavg()[0]
    return load if load > 0.3 * cores() else None
