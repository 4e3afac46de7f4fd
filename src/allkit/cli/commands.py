"""The commands and their options; what each does lies in a module of its own."""

# typer reads the annotations when the command runs, so they may not be postponed strings here.
# Nothing heavy is imported before it is known which command runs.
from pathlib import Path
from typing import Annotated, Any

import typer

from allkit import __version__
from allkit.cli.subcommands import cache_app, plugins_app

__all__ = ["app"]

app = typer.Typer(
    name="allkit",
    help="Classifiers of acute lymphoblastic leukaemia in blood-smear images that tell the truth. "
    "Research use; not a diagnosis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(plugins_app, name="plugins", invoke_without_command=True)
app.add_typer(cache_app, name="cache", invoke_without_command=True)

Data = Annotated[Path, typer.Argument(help="folder of class folders, zip, CSV, TSV or Parquet")]
Model = Annotated[Path, typer.Argument(help="a model folder, or an exported file")]
Folder = Annotated[Path, typer.Argument(help="a model folder", metavar="MODEL")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace what --out names")]
Seed = Annotated[int, typer.Option(help="the same seed gives the same result")]
Json = Annotated[Path | None, typer.Option("--json", help="write the result as JSON")]
Html = Annotated[Path | None, typer.Option("--html", help="write the result as one HTML page")]
Pattern = Annotated[
    str | None, typer.Option(help=r"take groups from the images' names, as in 'UID_(\d+)_'")
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="show the version and exit")] = False,
) -> None:
    if version:
        typer.echo(f"allkit {__version__}")
        raise typer.Exit


@app.command()
def demo(
    data: Annotated[Path | None, typer.Option(help="your images, instead of drawn ones")] = None,
    download: Annotated[
        bool, typer.Option("--download", help="bring the public set (needs a network)")
    ] = False,
    out: Annotated[Path, typer.Option(help="folder for everything that is made")] = Path(
        "allkit-demo"
    ),
    overwrite: Overwrite = False,
) -> None:
    """Run the whole job: images, split, training, figures, answers, export."""
    from allkit.cli.demo import run_demo

    run_demo(data=data, download=download, out=out, overwrite=overwrite)


@app.command()
def train(
    data: Data,
    out: Annotated[Path | None, typer.Option(help="the model folder to write")] = None,
    backbone: Annotated[str | None, typer.Option(help="see `allkit plugins`")] = None,
    weights: Annotated[
        str | None, typer.Option(help="a .safetensors file, `default`, or `none`")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(help="what is trained: head, last, full or lora")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="passes over the images, at most")] = None,
    val: Annotated[float | None, typer.Option(help="share kept for validation")] = None,
    folds: Annotated[int | None, typer.Option(help="k-fold cross-validation")] = None,
    seed: Annotated[int | None, typer.Option(help="of split, augmentation, training")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps")] = None,
    config: Annotated[
        str | None, typer.Option(help="quick, standard, best, or a YAML file of settings")
    ] = None,
    assign: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="one setting")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="show every setting and exit")
    ] = False,
    find: Annotated[
        str | None,
        typer.Option(
            help="learning-rate or batch-size: try which is good, show it and exit",
            metavar="WHAT",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with a training that was ended before its end")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a classifier and save it, with its figures and pictures."""
    from allkit.cli.train import run_train

    options: dict[str, Any] = {
        "backbone": backbone, "weights": weights, "strategy": strategy, "epochs": epochs,
        "val": val, "folds": folds, "seed": seed, "device": device,
    }  # fmt: skip
    given = {key: value for key, value in options.items() if value is not None}
    run_train(data, out, config, given, assign or [], print_config, find, resume, overwrite)


@app.command()
def tune(
    data: Data,
    out: Annotated[Path, typer.Option(help="the folder of the search; it is taken up again there")],
    trials: Annotated[int, typer.Option(min=1, help="trainings in all")] = 30,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="begin no training after so many minutes")
    ] = None,
    space: Annotated[
        Path | None, typer.Option(help="which settings, from where to where, as YAML")
    ] = None,
    metric: Annotated[
        str, typer.Option(help="val_loss, accuracy, balanced_accuracy or macro_f1")
    ] = "val_loss",
    backbone: Annotated[str | None, typer.Option(help="see `allkit plugins`")] = None,
    weights: Annotated[
        str | None, typer.Option(help="a .safetensors file, `default`, or `none`")
    ] = None,
    folds: Annotated[int | None, typer.Option(help="judge every trial on k folds")] = None,
    seed: Annotated[int | None, typer.Option(help="of split, augmentation, training")] = None,
    config: Annotated[
        str | None, typer.Option(help="what to start from: a recipe, or a YAML file")
    ] = None,
    assign: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="one setting")
    ] = None,
) -> None:
    """Search for better settings on validation images; test images are never touched."""
    from allkit.cli.tune import run_tune

    options: dict[str, Any] = {
        "backbone": backbone, "weights": weights, "folds": folds, "seed": seed
    }  # fmt: skip
    given = {key: value for key, value in options.items() if value is not None}
    run_tune(data, out, config, given, assign or [], space, trials, minutes, metric)


@app.command()
def reproduce(
    model: Folder,
    data: Data,
    weights: Annotated[
        str | None, typer.Option(help="the backbone's weights, if the model began with a file")
    ] = None,
    device: Annotated[str | None, typer.Option(help="instead of the one in the model")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the result")] = None,
) -> None:
    """Train a model again and say whether it is identical. Exit status 1 when it is different."""
    from allkit.cli.reproduce import run_reproduce

    raise typer.Exit(run_reproduce(model, data, weights, device, json_file))


@app.command()
def evaluate(
    model: Folder,
    data: Data,
    part: Annotated[
        str | None, typer.Option(help="all, train, val or test [default: test, or all]")
    ] = None,
    leave_out: Annotated[
        str | None,
        typer.Option(
            "--leave-one-group-out",
            metavar="COLUMN",
            help="train the model's settings again without one value of COLUMN at a time",
        ),
    ] = None,
    label_map: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE",
            help="YAML or CSV: what the labels of another set mean to this model",
        ),
    ] = None,
    group_pattern: Pattern = None,
    weights: Annotated[
        str | None, typer.Option(help="to train again, if the model began with a file")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="another model, image by image")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures")] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="write one page with figures and plots")
    ] = None,
    card: Annotated[
        bool, typer.Option("--card", help="write the figures into the model card too")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
) -> None:
    """Judge a model on labelled images."""
    from allkit.cli.evaluate import EvaluateOptions, run_evaluate

    options = EvaluateOptions(
        part, leave_out, weights, compare, json_file, html_file, card, device,
        label_map=label_map, pattern=group_pattern,
    )  # fmt: skip
    run_evaluate(model, data, options)


@app.command()
def explain(
    model: Folder,
    image: Annotated[str, typer.Argument(help="one image")],
    out: Annotated[Path, typer.Option(help="the .png to write")],
    target: Annotated[
        str | None, typer.Option("--class", help="the class to explain [default: the answer]")
    ] = None,
    method: Annotated[str, typer.Option(help="auto, hirescam, gradcam or occlusion")] = "auto",
    data: Annotated[
        Path | None, typer.Option(help="the training images, to show the nearest of them")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Show where the network looked for an answer, and whether that map can be believed."""
    from allkit.cli.evaluate import run_explain

    run_explain(
        model, image, out, target=target, method=method, data=data, json_file=json_file,
        device=device, overwrite=overwrite,
    )  # fmt: skip


@app.command()
def predict(
    model: Model,
    images: Annotated[list[str], typer.Argument(help="images or folders of images")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="FILE.jsonl, .csv or .parquet; the same command goes on when it was ended"
        ),
    ] = None,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="answer for one of N shares of the images")
    ] = "1/1",
    engine: Annotated[
        str, typer.Option(help="local, or ray: the machines of a Ray cluster")
    ] = "local",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Answer for images: one row each, in order. Exit status 1 when some were unreadable."""
    from allkit.cli.predict import run_predict

    raise typer.Exit(run_predict(model, images, out, shard, engine, device, overwrite))


@app.command()
def serve(
    model: Model,
    host: Annotated[str, typer.Option(help="the address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one")] = 8000,
    name: Annotated[
        str | None, typer.Option(help="of the model, in addresses [default: the file's]")
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="what clients must show [default: ALLKIT_API_KEY]")
    ] = None,
    max_request_mb: Annotated[float, typer.Option(help="size of one request, at most")] = 32,
    queue: Annotated[int, typer.Option(help="images inside at once, at most")] = 256,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
) -> None:
    """Answer over HTTP: images as forms, or by the Open Inference Protocol."""
    from allkit.cli.serve import run_serve

    run_serve(model, host, port, name, api_key_file, max_request_mb, queue, device)


@app.command()
def check(
    data: Data,
    backbone: Annotated[
        str | None, typer.Option(help="look for wrong labels with this backbone's features")
    ] = None,
    weights: Annotated[str, typer.Option(help="of that backbone, as for `train`")] = "default",
    group_pattern: Pattern = None,
    suggest_groups: Annotated[
        Path | None, typer.Option(help="write the guessed groups as a CSV to look at")
    ] = None,
    json_file: Json = None,
    html_file: Html = None,
    overwrite: Overwrite = False,
) -> None:
    """Look for what is wrong with a set of images. Exit status 1 when there is something to fix."""
    from allkit.cli.quality import run_check

    raise typer.Exit(
        run_check(
            data, backbone, weights, group_pattern, suggest_groups, json_file, html_file, overwrite
        )
    )


@app.command()
def audit(
    data: Data,
    model: Annotated[Path | None, typer.Option(help="a model folder, to stand beside")] = None,
    column: Annotated[
        str | None, typer.Option(help="leave out each value of this column [default: group]")
    ] = None,
    group_pattern: Pattern = None,
    json_file: Json = None,
    html_file: Html = None,
) -> None:
    """Measure what can be told about the classes without reading a cell."""
    from allkit.cli.quality import run_audit

    run_audit(data, model, column, group_pattern, json_file, html_file)


@app.command()
def adapt(
    model: Folder,
    data: Data,
    out: Annotated[Path, typer.Option(help="the model folder to write")],
    unlabelled: Annotated[
        bool,
        typer.Option(
            "--unlabelled",
            help="DATA is a folder of images, or a table, without labels; only the stain and what "
            "is known as a smear follow it",
        ),
    ] = False,
    column: Annotated[
        str | None,
        typer.Option(
            help="hold images with one value of this column out together [default: group]"
        ),
    ] = None,
    group_pattern: Pattern = None,
    strength: Annotated[
        str | None,
        typer.Option(
            help="how far the head may go: unchanged, weak, medium or strong [default: chosen on "
            "groups that are held out]"
        ),
    ] = None,
    json_file: Json = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Adapt a model to the slides of a laboratory, with a few of its fields."""
    from allkit.cli.adapt import run_adapt

    run_adapt(
        model, data, out, unlabelled, column, group_pattern, strength, json_file, device, overwrite
    )


@app.command()
def split(
    data: Data,
    out: Annotated[Path, typer.Option(help="the CSV to write")],
    test: Annotated[float, typer.Option(help="share of the images for testing")] = 0.3,
    val: Annotated[float, typer.Option(help="share of the images for validation")] = 0.0,
    folds: Annotated[int, typer.Option(help="write k folds instead")] = 0,
    by: Annotated[
        str, typer.Option(help="group; or image, the plain random split of published systems")
    ] = "group",
    scheme: Annotated[
        str, typer.Option(help="random; or leave-one-group-out, a fold for each group")
    ] = "random",
    column: Annotated[
        str, typer.Option(help="what leave-one-group-out leaves out: a column of the table")
    ] = "group",
    group_pattern: Pattern = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Divide a set into train, val and test, groups and fields whole, and write it as a CSV."""
    from allkit.cli.data import run_split

    run_split(data, out, test, val, folds, by, scheme, column, group_pattern, seed, overwrite)


@app.command()
def export(
    model: Folder,
    out: Annotated[Path, typer.Option(help="the file to write")],
    format_name: Annotated[str, typer.Option("--format", help="see `allkit plugins`")] = "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="compute in 8-bit integers")] = False,
    calibrate: Annotated[
        Path | None, typer.Option(help="training images for --int8 (the parts train and val)")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="images on which the file must answer like the model (the part test)"),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a model as one file of another format, after it answered alike."""
    from allkit.cli.export import run_export

    run_export(
        model, out, format_name, int8=int8, calibrate=calibrate, data=data, overwrite=overwrite
    )


@app.command()
def verify(
    exported: Annotated[Path, typer.Argument(help="a file that `allkit export` wrote")],
    model: Annotated[
        Path | None, typer.Argument(help="the model folder it was exported from")
    ] = None,
    data: Annotated[
        Path | None, typer.Argument(help="images to compare them on (the part test)")
    ] = None,
    json_file: Json = None,
) -> None:
    """Repeat the proof inside an exported file. Exit status 1 when it does not hold here."""
    from allkit.cli.export import run_verify

    raise typer.Exit(run_verify(exported, model, data, json_file))


@app.command()
def benchmark(
    models: Annotated[
        list[Path],
        typer.Argument(help="model folders and exported files", metavar="MODEL_OR_EXPORT..."),
    ],
    data: Annotated[
        Path | None, typer.Option(help="images to answer (the part test) [default: drawn ones]")
    ] = None,
    json_file: Json = None,
    plot: Annotated[Path | None, typer.Option(help="the .png to draw")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure models and exported files side by side: accuracy, time, size, memory."""
    from allkit.cli.benchmark import run_benchmark

    run_benchmark(models, data, json_file, plot, overwrite)


@app.command("app")
def app_command(
    models: Annotated[
        list[Path] | None, typer.Argument(help="model folders, or folders of them")
    ] = None,
    port: Annotated[int, typer.Option(help="on 127.0.0.1")] = 8501,
    browser: Annotated[bool, typer.Option(help="open the browser")] = True,
) -> None:
    """Open the app in the browser. It listens on this machine only and keeps nothing."""
    from allkit.cli.app import run_app

    raise typer.Exit(run_app(models or [], port=port, browser=browser))


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Show what is installed, what is missing, and how to get it."""
    from allkit.cli.system import run_doctor

    raise typer.Exit(run_doctor(as_json=as_json))
