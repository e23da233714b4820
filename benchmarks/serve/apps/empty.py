"""No model: what the web server alone does with a request of the same size, and an answer of the same size."""

from __future__ import annotations

from typing import Any

BODY = b'{"predicted_class":"setosa","label":0,"confidence":0.99,"probabilities":{"setosa":0.99}}'


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})
