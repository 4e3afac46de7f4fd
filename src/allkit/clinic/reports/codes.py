"""The codes and states that are written, and whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

__all__ = [
    "AIAST",
    "BLOOD_SMEAR",
    "MARROW_SMEAR",
    "PATTERNS",
    "SPECIMENS",
    "Code",
]


class Code(NamedTuple):
    """A code and its words."""

    value: str
    words: str


BLOOD_SMEAR = Code("5909-7", "Blood smear finding [Identifier] in Blood by Light microscopy")
"""LOINC, version 2.79: what the report and the reader's result are about."""

MARROW_SMEAR = Code("marrow-smear-finding", "Bone marrow smear finding by light microscopy")
"""Our own: 5909-7 says blood, and a report of marrow must not."""

AIAST = Code("AIAST", "Artificial Intelligence asserted")
"""HL7, v3-ObservationValue: said by a machine. It stands at every answer of the model."""

PATTERNS = "urn:allkit:all-pattern"
"""Our own names of classes. No code of SNOMED CT or ICD stands for an answer of the model."""

SPECIMENS: Mapping[str, Code] = MappingProxyType(
    {"blood": Code("BLD", "Whole blood"), "marrow": Code("MAR", "Marrow")}
)
"""HL7, table 0487 of version 2.5.1."""
