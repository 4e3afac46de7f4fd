"""The JavaScript and CSS of the workplace's components, read without Streamlit."""

import importlib.util
from pathlib import Path

PATH = Path(__file__).parents[1] / "streamlit_app" / "workplace" / "components" / "sources.py"
spec = importlib.util.spec_from_file_location("workplace_components_sources", PATH)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
script, style = module.script, module.style
