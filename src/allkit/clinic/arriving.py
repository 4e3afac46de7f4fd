"""What arrives at the workplace, which Streamlit serves: held to the same limits as the server's requests."""

from __future__ import annotations

import logging

from allkit.serving.messages import Few
from allkit.serving.pace import paced

__all__ = ["limit_connections", "paced"]


def limit_connections() -> None:
    """Let uvicorn drop slow clients, and keep its log short, from its next start on.

    Streamlit starts it, and takes no class of connections from us.
    """
    import uvicorn.config

    uvicorn.config.HTTP_PROTOCOLS["auto"] = "allkit.serving.connections:Connection"
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(Few())
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
