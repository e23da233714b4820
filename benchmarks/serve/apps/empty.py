"""No model: what the web server alone does with a request of the same size, and an answer of the same size as ours."""

from __future__ import annotations

from typing import Any

BODY = (
    b'{"predicted_class":1,"label":"versicolor","confidence":0.9999297857284546,"probabilities":'
    b'[4.952279141434701e-6,0.9999297857284546,0.00006515514542115852],"prediction_id":'
    b'"48b6f7dc80c9c7060000000000000004","model":"iris","version":"9ce2df1e2bc2","variant":"onnxruntime-fp32"}'
)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})
