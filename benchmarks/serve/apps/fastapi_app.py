"""The plain pattern: a sync handler, a pydantic model, no batching."""

from typing import Annotated

import numpy as np
from engine import from_environment
from fastapi import Body, FastAPI, Response
from pydantic import BaseModel, Field

app = FastAPI()
run, told = from_environment()


class Flower(BaseModel):
    features: list[float] = Field(min_length=4, max_length=4)


class Answer(BaseModel):
    predicted_class: int
    probabilities: list[float]


@app.post("/predict")
def predict(flower: Flower) -> Answer:
    probabilities = run(np.array([flower.features], np.float32))[0]
    return Answer(predicted_class=int(probabilities.argmax()), probabilities=probabilities.tolist())


@app.post("/raw")
def raw(body: Annotated[bytes, Body(media_type="application/octet-stream")]) -> Response:
    array = np.frombuffer(body, told["dtype"]).reshape(1, *told["shape"])
    return Response(run(array).tobytes(), media_type="application/octet-stream")
