from buildflow.requests import WebSocket


async def chat(websocket: WebSocket): ...
