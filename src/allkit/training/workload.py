"""Several passes over images, told as one piece of work."""

from __future__ import annotations

from allkit.types import Progress

__all__ = ["Workload"]


class Workload:
    """The passes over the images of a training, as one piece of work that is named `what`.

    `progress` is told of the images that take time: those that a cache holds are left out. So what
    was measured in the first batches says how long all passes take together.
    """

    def __init__(self, what: str, progress: Progress | None) -> None:
        self.what = what
        self._progress = progress
        self._done = 0

    def of_pass(self, ahead: int) -> Progress | None:
        """Return the progress of the next pass; `ahead` images are left to the passes after it.

        Its first call has to say how many images are there already.
        """
        tell = self._progress
        if tell is None:
            return None
        behind = self._done
        there: int | None = None

        def report(_: str, done: int, total: int) -> None:
            nonlocal there
            if there is None or done < there:
                there = done
            self._done = behind + done - there
            whole = behind + total - there + ahead
            if whole:
                tell(self.what, self._done, whole)

        return report
