"""A Flask application with a Shipworthy package inside.

python -m flask --app "examples/flask/app:create_app('iris.ship')" run
"""

from __future__ import annotations

import logging
from pathlib import Path

from flask import Flask, Response, jsonify, request

import shipworthy
from shipworthy.errors import InputError, ShipworthyError

IMAGES = ("image/png", "image/jpeg")


def create_app(package: str | Path) -> Flask:
    """An application that answers `POST /classify` with the model in `package`.

    The package is audited and proven once, before the first request; a package that is refused ends the start."""
    app = Flask(__name__)
    model = shipworthy.load(package)

    @app.post("/classify")
    def classify() -> Response:
        # A predictor is safe to use from all of Flask's threads.
        if request.mimetype in IMAGES:
            return jsonify(model.predict_image(request.get_data()))
        return jsonify(model.predict(request.get_json()))

    @app.get("/model")
    def about() -> Response:
        return jsonify(
            name=model.manifest.name,
            version=model.version,
            variant=model.variant.id,
            inputs={name: spec.show() for name, spec in model.contract.inputs.items()},
        )

    @app.errorhandler(InputError)
    def wrong_input(error: InputError) -> tuple[Response, int]:
        """What the caller sent does not fit: every fault, by sample and field."""
        faults = [
            {"sample_index": fault.sample_index, "field": fault.field, "reason": fault.reason}
            for fault in error.problems
        ]
        return jsonify(error="invalid input", faults=faults), 422

    @app.errorhandler(ShipworthyError)
    def model_failed(error: ShipworthyError) -> tuple[Response, int]:
        """Anything else is not the caller's doing: it is logged, and the caller learns nothing of the inside."""
        logging.getLogger(__name__).error("prediction failed: %s", error)
        return jsonify(error="the model failed"), 500

    return app
