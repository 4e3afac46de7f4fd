"""The server that is attacked: `python _served.py SETTINGS` says its port, then serves until told to stop.

SETTINGS is JSON: `seconds` that the model takes for a batch, `clinic` for a folder in which to make one,
`workplace` for a folder of the clinic whose workplace is served instead, `quick` for time limits of a second, so that slow clients are dropped while a test waits.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from allkit.runtime.answers import stream
from allkit.serving import connections, pace
from allkit.serving.admission import Limits
from allkit.serving.app import create_app
from allkit.serving.run import listen, serve
from allkit.trust.verdict import Outputs, Trust

CLASSES = ("Benign", "Early", "Pre", "Pro")


class Bright:
    """A model that answers by brightness."""

    classes = CLASSES

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def outputs(self, images):
        time.sleep(self.seconds)
        logits = np.zeros((len(images), 4), np.float32)
        for row, image in enumerate(images):
            logits[row, int(image[0, 0, 0]) // 64] = 5
        return Outputs(logits, logits)

    def predict(self, images, *, batch_size=16):
        return list(stream(images, self.outputs, Trust(CLASSES), batch_size=batch_size))


def clinic(folder: str):
    """Return the routes of a clinic with a case, and tell its keys."""
    from allkit.clinic import access, cases
    from allkit.clinic.records import Specimen
    from allkit.clinic.routes import clinic_router
    from allkit.clinic.store.store import Store

    store = Store.create(folder)
    anna = access.first_person(store, "anna", "Dr. Anna Berg")
    access.add_person(anna, "lis", ["system"])
    keys = [access.add_key(anna, name) for name in ("anna", "lis")]
    case = cases.create(anna, specimen_=Specimen("blood"))
    return clinic_router(store, limits=Limits()), {"keys": keys, "case": case}


def workplace(folder: str):
    """Return the routes of the workplace with its middleware, and tell the token of a page and a case."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "streamlit_app"))
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from workplace.headers import SameOrigin, SecurityHeaders
    from workplace.routes import routes
    from workplace.sessions import SESSIONS

    from allkit.clinic import access, cases, fields, view
    from allkit.clinic.intake.incoming import take_image
    from allkit.clinic.records import Specimen
    from allkit.clinic.store.store import Store
    from attacks._requests import png

    store = Store.create(folder)
    anna = access.first_person(store, "anna", "Dr. Anna Berg")
    case = cases.create(anna, specimen_=Specimen("blood"))
    fields.add(anna, case, [take_image(png(side=48), "field.png")])
    with anna.read("reader") as connection:
        field = view.view_of(connection, case).fields[0].id
    middleware = [
        Middleware(SecurityHeaders),
        Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"]),
        Middleware(SameOrigin),
    ]
    token = SESSIONS.open("anna", anna, "en").token
    app = Starlette(routes=routes(), middleware=middleware)
    app.state.draining = False
    return app, {"token": token, "case": case, "field": field}


def main() -> None:
    settings = json.loads(sys.argv[1])
    sys.path.insert(0, str(Path(__file__).parents[1]))
    if settings.get("quick"):
        for name in ("IDLE_SECONDS", "HEAD_SECONDS", "REST_SECONDS", "ANSWER_SECONDS"):
            setattr(connections, name, 1.0)
        pace.GRACE = 1.0
    routers, said = [], {}
    if settings.get("clinic"):
        router, said = clinic(settings["clinic"])
        routers.append(router)
    bound = listen("127.0.0.1", 0)
    if settings.get("workplace"):
        app, said = workplace(settings["workplace"])
    else:
        app = create_app(Bright(settings.get("seconds", 0.0)), name="tiny", routers=routers)
    sys.stdout.write(json.dumps(said | {"port": bound.getsockname()[1]}) + "\n")
    sys.stdout.flush()
    sys.exit(0 if serve(app, bound) else 3)


if __name__ == "__main__":
    main()
