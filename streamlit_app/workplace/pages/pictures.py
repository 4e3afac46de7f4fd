"""The pages of a PDF as pictures: the browser needs no viewer of its own, and no file leaves."""

from __future__ import annotations

import io
import threading

import pypdfium2
import streamlit as st

from allkit.clinic.records import CaseReport
from allkit.clinic.reports.formats import render
from allkit.clinic.store.store import Store

__all__ = ["WIDTH", "pages_of", "pdf_pages"]

_PDFIUM = threading.Lock()
"""PDFium may be used by one thread at a time, and each session of Streamlit is a thread."""
SCALE = 2.0
WIDTH = 820
"""Pixels that a page is shown at, or what there is."""
HELD = "workplace.pdf_pages"


def pages_of(report: CaseReport, store: Store) -> list[bytes]:
    """Return the pages of a report as PNG files. The last report is kept in the session, not drawn twice."""
    held = st.session_state.get(HELD)
    if held is not None and held[0] == report.sha256:
        return list(held[1])
    pages = pdf_pages(render(report, "pdf", image_of=store.blobs.get))
    st.session_state[HELD] = (report.sha256, pages)
    return pages


def pdf_pages(pdf: bytes) -> list[bytes]:
    """Return each page of a PDF as a PNG file."""
    pages = []
    with _PDFIUM, pypdfium2.PdfDocument(pdf) as document:
        for page in document:
            stream = io.BytesIO()
            page.render(scale=SCALE).to_pil().save(stream, "PNG")
            pages.append(stream.getvalue())
    return pages
