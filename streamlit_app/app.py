"""The clinicians' app: choose a model, upload fields, see and download the answers.

It keeps nothing: uploads and answers live in this session's memory until they are cleared or the
page is closed. Start it with `allkit app`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st
from answers import (
    Field,
    answer_fields,
    is_uncalibrated,
    plain,
    sentence,
    slide_line,
    to_csv,
    too_large,
)
from cards import show
from model_folders import find_models, short_name, stamp
from PIL import Image, ImageDraw
from streamlit.runtime.scriptrunner import get_script_run_ctx

import allkit

MAX_FILES = 50
MAX_MEGABYTES = 20
KINDS = ["jpg", "jpeg", "png", "tif", "tiff", "bmp"]
BEYOND = "For more or larger files use `allkit predict MODEL FOLDER --out answers.csv`."


def icon() -> Image.Image:
    """Draw the page's icon here: a named one would be asked for at fonts.gstatic.com."""
    image = Image.new("RGBA", (64, 64))
    draw = ImageDraw.Draw(image)
    draw.ellipse((4, 4, 60, 60), fill="#e9c9d6")
    draw.ellipse((16, 14, 54, 52), fill="#5b3a86")
    return image


@st.cache_resource(max_entries=2, show_spinner=False)
def load(folder: str, changed: tuple[tuple[str, int, int], ...]) -> Any:
    """Load a model once for everybody; `changed` makes an altered folder a new one."""
    return allkit.Classifier.load(folder)


def opened(folder: Path) -> Any | None:
    """Return the classifier, or say why there is none."""
    try:
        with st.spinner("Loading the model"):
            return load(str(folder), stamp(folder))
    except allkit.AllkitError as error:
        st.error(sentence(str(error)))
    except ModuleNotFoundError as error:
        st.error(
            f"{plain(str(error))}. This machine lacks what a model folder needs to be opened: "
            f"type `pip install 'allkit[train]'` and start the app again."
        )
    except OSError as error:
        st.error(f"{plain(str(folder))} could not be read: {plain(str(error))}")
    return None


def choose_model() -> Path | None:
    """Show the models in the sidebar, or say how to get one."""
    found = find_models()
    for place in found.empty if found.folders else ():
        st.sidebar.warning(f"No model in {plain(str(place))}")
    if not found.folders:
        st.subheader("No model found")
        places = "\n".join(f"- {plain(str(place))}" for place in found.empty)
        st.markdown(f"No model folder (one with a `model.json`) in:\n\n{places}")
        st.markdown(
            "To get one, type one of these in a terminal, then look again:\n\n"
            "- `allkit demo` makes a model of drawn images within a minute or two, to try "
            "the app with. It writes `allkit-demo/model`.\n"
            "- `allkit train IMAGES --out model` trains one on your images, one folder per "
            "class.\n\n"
            "Models elsewhere are found with `allkit app MODEL_FOLDER`."
        )
        st.button("Look again", key="again")
        return None
    folder: Path | None = st.sidebar.selectbox(
        "Model", found.folders, format_func=short_name, key="model"
    )
    return folder


def describe(classifier: Any) -> None:
    """Show in the sidebar what the model is and what its figures are worth."""
    info = classifier.info
    st.markdown(f"**Backbone**  \n{plain(info.backbone.name)}")
    rows = "\n".join(f"- {plain(info.display_names.get(c, c))}" for c in info.classes)
    st.markdown(f"**Classes**\n{rows}")
    st.markdown("**Validation**")
    st.markdown(plain(classifier.validation_sentence))
    for note in (info.validation or {}).get("notes", ()):
        st.warning(plain(note))


def clear(uploads: list[Any]) -> None:
    """Drop the uploads and the answers: a new key makes a new, empty uploader."""
    st.session_state["round"] = st.session_state.get("round", 0) + 1
    st.session_state.pop("fields", None)
    # Streamlit itself would hold the files of the old uploader until the page is closed.
    context = get_script_run_ctx()
    remove = getattr(context and context.uploaded_file_mgr, "remove_file", None)
    if context is None or remove is None:
        return
    for upload in uploads:
        remove(session_id=context.session_id, file_id=upload.file_id)


def answered(classifier: Any, model: tuple[Any, ...], uploads: list[Any]) -> list[Field]:
    """Return the fields in the order of the uploads; what was answered before is not redone."""
    keys = [(model, upload.file_id) for upload in uploads]
    before: dict[Any, Field] = st.session_state.get("fields", {})
    known = {key: before[key] for key in keys if key in before}
    new = []
    for key, upload in zip(keys, uploads, strict=True):
        if upload.size > MAX_MEGABYTES * 2**20:
            known[key] = too_large(upload.name, MAX_MEGABYTES)
        elif key not in known:
            new.append((key, upload))
    if new:
        bar = st.progress(0.0, "Answering")
        names = [upload.name for _, upload in new]
        contents = (upload.getvalue() for _, upload in new)
        for number, field in enumerate(answer_fields(classifier, names, contents)):
            known[new[number][0]] = field
            bar.progress((number + 1) / len(new), f"Answered {number + 1} of {len(new)}")
        bar.empty()
    st.session_state["fields"] = known
    return [known[key] for key in keys]


def answers_page(classifier: Any, model: tuple[Any, ...]) -> list[Field]:
    """Show the uploader, then how many were answered, the buttons and every field in order."""
    uploads = st.file_uploader(
        f"Fields of blood smears: at most {MAX_FILES} files at a time, {MAX_MEGABYTES} MB each",
        type=KINDS,
        accept_multiple_files=True,
        max_upload_size=MAX_MEGABYTES,
        key=f"uploads-{st.session_state.get('round', 0)}",
    )
    st.caption(
        f"{BEYOND} Nothing is stored: uploads stay in this computer's memory until you clear "
        f"them or close the page."
    )
    if not uploads:
        st.session_state.pop("fields", None)
        st.info("Upload one or several fields to get answers.")
        return []
    if len(uploads) > MAX_FILES:
        st.error(f"You chose {len(uploads)} files; at most {MAX_FILES} at a time. {BEYOND}")
        st.button("Clear", on_click=clear, args=(uploads,), key="clear")
        return []
    fields = answered(classifier, model, uploads)
    unreadable = sum(field.answer.label is None for field in fields)
    summary = f"**{len(fields) - unreadable} of {len(fields)} answered.**"
    if unreadable:
        summary += f" {unreadable} could not be read; the reason stands in its place."
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(summary)
        st.download_button(
            "Download answers (CSV)",
            to_csv(fields, classifier.classes),
            file_name="allkit-answers.csv",
            mime="text/csv",
            on_click="ignore",
            key="csv",
        )
        st.button("Clear", on_click=clear, args=(uploads,), key="clear")
    together = slide_line(fields, classifier)
    if together:
        st.markdown(f"**{plain(together)}**")
        st.caption("All fields together, if they are of one slide.")
    for field in fields:
        show(field, classifier.info.display_names)
    return fields


def caution(*, uncalibrated: bool, drawn: bool) -> str:
    """Return what is always visible."""
    words = "Uncalibrated. " if uncalibrated else ""
    words += "Research use only, not a diagnosis."
    if drawn:
        words += " This model was trained on drawn images: nothing follows for real smears."
    return f"**{words}**"


def main() -> None:
    """Show first what the page is not, then the model, then the answers."""
    st.set_page_config(page_title="allkit", page_icon=icon(), layout="wide")
    st.title("Acute lymphoblastic leukaemia in blood smears", anchor=False)
    notices = [st.empty(), st.sidebar.empty()]

    def warn(**facts: bool) -> None:
        for notice in notices:
            notice.warning(caution(**facts))

    warn(uncalibrated=True, drawn=False)
    folder = choose_model()
    classifier = opened(folder) if folder else None
    if folder is None or classifier is None:
        return
    drawn = classifier.info.data.drawn
    warn(uncalibrated=True, drawn=drawn)
    with st.sidebar:
        describe(classifier)
    fields = answers_page(classifier, (str(folder), stamp(folder)))
    if not is_uncalibrated(fields):
        warn(uncalibrated=False, drawn=drawn)


main()
