"""Ray Serve with dynamic batching, its proxy on the loopback."""

import asyncio
import time

import numpy as np
import ray
from engine import described, from_environment
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

said = described()


@serve.deployment(
    num_replicas=said["workers"],
    max_ongoing_requests=said["most_ongoing"],
    max_queued_requests=said["most_queued"],
    ray_actor_options={"num_cpus": 0.1},
)
class Served:
    def __init__(self) -> None:
        self.run, self.told = from_environment()

    @serve.batch(max_batch_size=said["batch"], batch_wait_timeout_s=said["delay_s"])
    async def many(self, rows: list) -> list:
        return list(await asyncio.to_thread(self.run, np.stack(rows)))

    async def __call__(self, request: Request):
        if len(self.told["shape"]) == 1:
            row = np.array((await request.json())["features"], np.float32)
            found = await self.many(row)
            return {"predicted_class": int(found.argmax()), "probabilities": found.tolist()}
        row = np.frombuffer(await request.body(), self.told["dtype"]).reshape(self.told["shape"])
        return Response((await self.many(row)).tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": said["port"]}, logging_config={"enable_access_log": False})
    serve.run(Served.bind(), route_prefix="/")
    while True:
        time.sleep(3600)
