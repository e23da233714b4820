"""MLServer with a custom runtime and adaptive batching."""

import asyncio
from typing import Annotated

import numpy as np
from engine import from_environment
from fastapi import Body, Response
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.handlers import custom_handler
from mlserver.types import InferenceRequest, InferenceResponse


class Served(MLModel):
    async def load(self) -> bool:
        self.run, self.told = from_environment()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        probabilities = self.run(NumpyCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("probabilities", probabilities)]
        )

    # Its REST routes know no binary tensors, and a route of one's own is not batched.
    @custom_handler(rest_path="/raw")
    async def raw(self, body: Annotated[bytes, Body(media_type="application/octet-stream")]) -> Response:
        array = np.frombuffer(body, self.told["dtype"]).reshape(1, *self.told["shape"])
        answer = await asyncio.to_thread(self.run, array)
        return Response(answer.tobytes(), media_type="application/octet-stream")
