"""A clinic of drawn smears that shows every page: ten cases in the states that cases can be in.

Everything is made by the functions that a laboratory uses, and every answer by the model that is given.
The fields are drawings, which is said in their files and in the name of the laboratory; nothing that is
seen there says anything about patients.
"""

from __future__ import annotations

import datetime
import getpass
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from allkit.clinic import access, cases, explanations, fields, models, reading, references, signing
from allkit.clinic.access import Role, User
from allkit.clinic.intake.incoming import Incoming, take_image
from allkit.clinic.records import Identifier, Order, Specimen, SpecimenKind, sha256_of
from allkit.clinic.store.store import URL_VARIABLE, Store
from allkit.clinic.view import CaseView, FieldView, view_of
from allkit.clinic.worker import Worker
from allkit.data.dataset import Dataset
from allkit.data.drawn import DrawnField, as_png, draw_smears
from allkit.errors import ClinicError, ConfigError
from allkit.files import clear_stale, whole_folder
from allkit.records import Predictor

__all__ = ["LABORATORY", "make_demo"]

LABORATORY = "Demonstration: drawn smears, no patients"
SLIDES, FIELDS = 12, 8
SEED = 7
"""With it the model of `allkit demo` accepts most fields, and has some to be reviewed or refused."""
PEOPLE: Mapping[str, tuple[str, tuple[Role, ...]]] = {
    "demo-lind": ("Dr. Maja Lind", ("reader",)),
    "demo-rossi": ("Dr. Paolo Rossi", ("reader",)),
    "demo-admin": ("Chris Admin", ("admin",)),
}
NEXT = {"Benign": "Early", "Early": "Pre", "Pre": "Early", "Pro": "Pre"}
"""The class that a second reader gives instead, now and then."""
STAIN = "May-Grünwald-Giemsa"


class _Clock:
    """A clock that is set to days before now; each look at it is a second later, as somebody works."""

    def __init__(self, days: int) -> None:
        self.end = datetime.datetime.now(datetime.UTC)
        self.moment = self.end - datetime.timedelta(days=days)

    def __call__(self) -> str:
        # Never beyond the true time: what is done in the clinic later must not seem to be earlier.
        self.moment = min(self.moment + datetime.timedelta(seconds=1), self.end)
        return self.moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def go(self, **before: float) -> None:
        """Go on to some time before now, never back."""
        self.moment = max(self.moment, self.end - datetime.timedelta(**before))

    def day(self, before: int) -> str:
        """Return the day that lies so many days before the time that the clock shows."""
        return (self.moment - datetime.timedelta(days=before)).date().isoformat()


@dataclass
class _Demo:
    """The clinic while it is made: its people, its worker, and the drawn fields of each slide."""

    store: Store
    clock: _Clock
    me: User
    first: User
    second: User
    worker: Worker
    slides: Mapping[int, Sequence[DrawnField]]
    classes: Sequence[str]
    orders: int = field(default=0)

    def case(
        self,
        slide: int,
        count: int = FIELDS,
        *,
        patient: str,
        draw: Callable[[DrawnField], DrawnField] | None = None,
        extra: Iterable[Incoming] = (),
        answer: bool = True,
        blind: bool = False,
    ) -> str:
        """Open a case by an order, with fields of one slide, and let the model answer it."""
        self.orders += 1
        number = Identifier(f"LAB-{self.clock.day(0)[:4]}-{400 + 17 * self.orders:05d}", "LIS")
        kind: SpecimenKind = "marrow" if self.orders % 3 == 0 else "blood"
        specimen = Specimen(kind, self.clock.day(1), STAIN, f"S-{2000 + self.orders}")
        who = Identifier(patient, "KIS")
        if blind:
            case = cases.create(
                self.me, specimen_=specimen, order=number, identifiers=[who], blind_first=True
            )
        else:
            case = self.order(number, who, specimen)
        pictures = []
        for place, one in enumerate(self.slides[slide][:count], start=1):
            shown = one if draw is None else draw(one)
            pictures.append(_taken(shown, f"field {place:02d}.png"))
        fields.add(self.me, case, [*pictures, *extra])
        if answer:
            self.worker.drain()
            job = self.view(case).job
            if job is None or job["state"] != "done":
                raise ClinicError(f"The model does not answer drawn smears: {job and job['error']}")
        return case

    def order(
        self, number: Identifier, who: Identifier, specimen: Specimen, *, cancel: bool = False
    ) -> str:
        """Take an order in, or its cancellation, as a laboratory system sends it."""
        message = f"{'C' if cancel else 'O'}-{number.value}"
        sent = Order(
            number,
            (who,),
            specimen,
            message=message,
            sender="LIS",
            action="cancel" if cancel else "new",
        )
        return cases.open_order(self.me, sent, sha256=sha256_of(message))[0]

    def view(self, case: str) -> CaseView:
        """Return a case with everything that is known."""
        with self.me.read("reader") as connection:
            return view_of(connection, case)

    def truth(self, slide: int) -> str:
        """Return what the fields of a slide were drawn as, in the classes of the model."""
        label = self.slides[slide][0].label
        return label if label in self.classes else reading.OTHER

    def read(
        self, user: User, case: str, label: str, *, every: int = 0, only: int | None = None
    ) -> None:
        """Give fields of a case a class; each `every`th gets another one, as readers differ."""
        for place, shown in enumerate(self.view(case).fields[:only], start=1):
            given = NEXT.get(label, label) if every and place % every == 0 else label
            given = given if given in self.classes else label
            reading.relabel(user, shown.id, given, why=_why(shown, given))

    def read_by_two(self, case: str, label: str, every: int) -> None:
        """Let both readers read a case and finish."""
        cases.assign(self.me, case, reader=self.first.name, second=self.second.name)
        self.read(self.first, case, label)
        reading.finish(self.first, case)
        self.read(self.second, case, label, every=every)
        reading.finish(self.second, case)

    def sign(self, case: str, result: str, comment: str) -> None:
        """Sign a case, with all acknowledged that a signer has to acknowledge."""
        answers = [one.answer for one in self.view(case).fields if one.answer is not None]
        refused = sum(answer.verdict in ("refused", "unreadable") for answer in answers)
        statement = signing.Statement(result, comment, refused=refused, limits_read=True)
        signing.sign(self.me, case, statement)

    def explain(self, case: str, number: int) -> None:
        """Ask why the model answered so for a field, and let the worker make it."""
        shown = self.view(case).fields[number - 1]
        if shown.answer is not None and shown.answer.label is not None:
            explanations.ask(self.me, shown.id)
            self.worker.drain()


def _why(shown: FieldView, given: str) -> str:
    answer = shown.answer
    against = answer is not None and answer.verdict == "accepted" and answer.label != given
    return "nucleoli and cytoplasm speak against the model's class" if against else ""


def make_demo(
    folder: Path,
    model: Path,
    predictor: Predictor,
    reference_data: Dataset | None = None,
    *,
    who: str | None = None,
) -> None:
    """Make a clinic of ten drawn cases in a new folder, answered by a model.

    `predictor` is the model at the path `model`, opened. `who` is who may do everything there, by default
    who is signed in to this machine. `reference_data` are labelled images of its training, of which some
    are kept to look at. The folder appears when it is whole: what a killed run left is removed by the next.

    Raises `ConfigError` where the folder exists, and where `ALLKIT_CLINIC_URL` names a database, which a
    demonstration must not write into. Raises `ClinicError` where the model fails on the drawn fields.
    """
    if os.environ.get(URL_VARIABLE):
        raise ConfigError(
            f"{URL_VARIABLE} names a database, and a demonstration is kept in a folder only. Unset it first."
        )
    clear_stale(folder)
    with whole_folder(folder) as building:
        clock = _Clock(days=27)
        with Store.create(building, now=clock) as store:
            demo = _people(store, clock, model, predictor, who=who or _own_name())
            if reference_data is not None:
                (row,) = models.models(demo.me)
                references.add_references(
                    demo.me, row["id"], predictor, reference_data, per_class=4
                )
            _past(demo)
            _present(demo)


def _own_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return "demo"


def _people(store: Store, clock: _Clock, model: Path, predictor: Predictor, *, who: str) -> _Demo:
    me = access.first_person(store, who, f"{who} (you)")
    for name, (display, roles) in PEOPLE.items():
        access.add_person(me, name, roles, display=display)
    access.change_settings(me, {"laboratory": LABORATORY})
    models.add_model(me, model, predictor)
    drawn = list(draw_smears(SLIDES * FIELDS, groups=SLIDES, seed=SEED))
    return _Demo(
        store,
        clock,
        me=me,
        first=access.sign_in(store, "demo-lind"),
        second=access.sign_in(store, "demo-rossi"),
        worker=Worker(access.worker(store), lambda path: predictor),
        slides={slide: drawn[slide::SLIDES] for slide in range(SLIDES)},
        classes=predictor.classes,
    )


def _past(demo: _Demo) -> None:
    """Make the cases that were signed: final, amended, read by two, withdrawn, inadequate."""
    clock, truth = demo.clock, demo.truth
    clock.go(days=26, minutes=59)
    case = demo.case(0, patient="4711")
    demo.read_by_two(case, truth(0), every=6)
    demo.sign(case, truth(0), "Regenerating marrow is likely; follow up in four weeks.")
    clock.go(days=22, minutes=170)
    case = demo.case(1, patient="4802")
    demo.read_by_two(case, truth(1), every=5)
    demo.sign(case, truth(1), "Seen together with flow cytometry.")
    clock.go(days=20, minutes=74)
    signing.reopen(demo.me, case, why="the cytogenetic result came in")
    reading.add_note(demo.me, "Cytogenetics agree with the second reader on field 5.", case=case)
    demo.sign(case, truth(1), "Corrected after the cytogenetic result.")
    clock.go(days=17, minutes=122)
    case = demo.case(3, patient="4833")
    demo.read_by_two(case, truth(3), every=0)
    demo.sign(case, truth(3), "Both readers agree.")
    clock.go(days=13, minutes=11)
    case = demo.case(4, patient="4870")
    demo.read(demo.me, case, truth(4))
    demo.sign(case, truth(4), "No blasts seen.")
    clock.go(days=12, minutes=185)
    view = demo.view(case)
    if view.order is not None:
        demo.order(view.order, view.identifiers[0], view.specimen, cancel=True)
    signing.withdraw(demo.me, case, why="the order was cancelled: the tube was of another ward")
    clock.go(days=9, minutes=85)
    case = demo.case(8, 4, patient="4911", draw=_without_cells)
    demo.read(demo.me, case, reading.INADEQUATE)
    demo.sign(case, reading.INADEQUATE, "No white cell in any field; a new smear is asked for.")


def _present(demo: _Demo) -> None:
    """Make the cases that are worked at: blind, with the second reader, to be reviewed, urgent, waiting."""
    clock, truth = demo.clock, demo.truth
    clock.go(days=6, minutes=170)
    blind = demo.case(5, patient="4950", blind=True)
    demo.read(demo.me, blind, truth(5), every=3, only=4)
    clock.go(days=3, minutes=70)
    second = demo.case(10, patient="4968")
    cases.assign(demo.me, second, reader=demo.first.name, second=demo.me.name)
    demo.read(demo.first, second, truth(10), every=4)
    reading.finish(demo.first, second)
    demo.read(demo.me, second, truth(10), only=2)
    clock.go(days=2, minutes=133)
    first = demo.slides[6][0]
    extra = [
        _taken(_blurred(first), "out of focus.png"),
        _taken(_no_smear(first), "label of the slide.png"),
    ]
    open_ = demo.case(6, patient="4711", extra=extra)
    demo.read(demo.me, open_, truth(6), only=2)
    third = demo.view(open_).fields[2]
    reading.relabel(demo.me, third.id, truth(6), why="one nucleolus, moderate cytoplasm")
    reading.undo(demo.me, third.id)
    reading.add_note(demo.me, "Please look at the large cell in the middle.", case=open_,
                     field=third.id)  # fmt: skip
    reading.add_note(demo.me, "Earlier sample four weeks ago; compare.", case=open_)
    demo.explain(open_, 1)
    for known in (blind, second, open_):  # so that the urgent one stands alone at the top
        cases.lower_priority(demo.me, known, why="the ward knows; the patient is in treatment")
    clock.go(minutes=55)
    urgent = demo.case(7, patient="4990")
    demo.explain(urgent, 1)
    clock.go(minutes=12)
    demo.case(2, 6, patient="5003", answer=False)


def _without_cells(drawn: DrawnField) -> DrawnField:
    """Return a field with its white cells painted over: a smear in which nothing can be judged."""
    from allkit.images.cells import find_cells

    image = drawn.image.copy()
    random = np.random.default_rng(SEED)
    cover = np.quantile(image.reshape(-1, 3), 0.9, axis=0)
    circles = [(x, y, 1.3 * radius + 2) for x, y, radius in drawn.cells]
    while circles:
        for x, y, radius in circles:
            rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
            inside = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
            noise = random.normal(0, 2, (int(inside.sum()), 3))
            image[inside] = np.clip(cover + noise, 0, 255).astype(np.uint8)
        # What is left at the edge of one may still be taken for a cell.
        found = find_cells(image).cells
        circles = [(cell.x, cell.y, cell.diameter) for cell in found]
    return replace(drawn, image=image)


def _blurred(drawn: DrawnField) -> DrawnField:
    picture = Image.fromarray(drawn.image).filter(ImageFilter.GaussianBlur(9))
    return replace(drawn, image=np.array(picture))


def _no_smear(drawn: DrawnField) -> DrawnField:
    """Return a picture of something else: a printed label with a bar code."""
    image = np.full((224, 224, 3), 250, np.uint8)
    stripes = np.repeat(np.random.default_rng(SEED).integers(0, 2, 56), 4) * 235
    image[60:170] = (250 - stripes)[None, :, None]
    return replace(drawn, image=image)


def _taken(drawn: DrawnField, name: str) -> Incoming:
    return take_image(as_png(drawn).read(), name)
