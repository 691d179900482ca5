"""The command that kills runs and lets their disk fail, in short."""

import re
import subprocess
import sys

from tests.support import ROOT, command_line


def test_runs_survive_kills_and_failing_disks():
    words = [sys.executable, "-m", "tests.reliability", "--kills", "3", "--every", "40"]
    done = subprocess.run(words, cwd=ROOT, env=command_line()[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed at 3 random moments" in done.stdout and done.stdout.endswith("all ended the same\n")
    assert all(int(count) > 0 for count in re.findall(r"in (\d+) calls", done.stdout))
    assert done.stdout.count(" calls (") == 2
