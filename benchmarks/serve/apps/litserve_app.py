"""LitServe with dynamic batching, several workers, and ZeroMQ between its processes where that is faster."""

from typing import Annotated

import litserve
import numpy as np
from engine import described, from_environment
from fastapi import Body, Response


class Flowers(litserve.LitAPI):
    def setup(self, device):
        self.run, _ = from_environment()

    def decode_request(self, request):
        return np.array(request["features"], np.float32)

    def predict(self, x):
        return self.run(x)

    def encode_response(self, output):
        return {"predicted_class": int(output.argmax()), "probabilities": output.tolist()}


class Pictures(litserve.LitAPI):
    def setup(self, device):
        self.run, self.told = from_environment()

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]):
        return np.frombuffer(request, self.told["dtype"]).reshape(self.told["shape"])

    def predict(self, x):
        return self.run(x)

    def encode_response(self, output) -> Response:
        return Response(output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    said = described()
    kind = Flowers if len(said["shape"]) == 1 else Pictures
    api = kind(max_batch_size=said["batch"], batch_timeout=said["delay_s"], api_path="/predict")
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=said["workers"],
        timeout=said["timeout_s"],
        fast_queue=said["fast_queue"],
    )
    server.run(host="127.0.0.1", port=said["port"], generate_client_file=False, log_level="warning", access_log=False)
