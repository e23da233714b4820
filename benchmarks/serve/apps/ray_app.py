"""Ray Serve with dynamic batching, its proxy on the loopback."""

import asyncio
import time

import numpy as np
import ray
from engine import described, from_environment
from ray import serve
from ray._private import services
from starlette.requests import Request
from starlette.responses import Response

said = described()


def stay_local() -> None:
    """In every worker, before it serves: a replica would listen on all addresses."""
    from ray._common import tls_utils

    plain = tls_utils.add_port_to_grpc_server
    tls_utils.add_port_to_grpc_server = lambda server, address: plain(server, address.replace("[::]", "127.0.0.1"))


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
    # It would put the machine's own address in the place of the loopback's, and then listen to everybody.
    services.resolve_ip_for_localhost = lambda host: host
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
        runtime_env={"worker_process_setup_hook": stay_local},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": said["port"]}, logging_config={"enable_access_log": False})
    serve.run(Served.bind(), route_prefix="/")
    while True:
        time.sleep(3600)
