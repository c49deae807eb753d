"""Holds a job at its most delicate moment: all of an entry is written, nothing is published.

Active while a file called `pause` lies in the job's working directory.
"""

import os
import pathlib
import time

_rename = pathlib.Path.rename


def _rename_after_pause(self, target):
    while self.name.startswith(".tmp-") and os.path.exists("pause"):
        time.sleep(0.2)
    return _rename(self, target)


pathlib.Path.rename = _rename_after_pause
