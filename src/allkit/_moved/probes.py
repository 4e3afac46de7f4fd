"""Moved to `allkit.evaluation.shortcuts`."""

from allkit._moved import forward

_HOMES = {
    "BLIND": "allkit.evaluation.shortcuts.BLIND",
    "COARSE": "allkit.evaluation.shortcuts.COARSE",
    "Probe": "allkit.evaluation.shortcuts.Probe",
    "QUICK": "allkit.evaluation.shortcuts.QUICK",
    "background_of": "allkit.evaluation.shortcuts.background_of",
    "collect": "allkit.evaluation.shortcuts.collect",
    "leave_out": "allkit.evaluation.shortcuts.leave_out",
    "measure": "allkit.evaluation.shortcuts.measure",
    "score": "allkit.evaluation.shortcuts.score",
    "threshold": "allkit.evaluation.shortcuts.threshold",
    "too_few": "allkit.evaluation.shortcuts.too_few",
}
__all__ = list(_HOMES)
__getattr__ = forward(__name__, _HOMES)
