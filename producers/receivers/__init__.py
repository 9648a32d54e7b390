"""Events over HTTP onto the log: `wattlog produce http`.

Pure: what an `intake` is, what bodies mean (`cloudevents`, `meters`), who may send (`auth`), how errors look
(`problems`). Around it: `delivery`, a thread that keeps, sends and hears of acknowledgements; `server`, ASGI;
`produce`, the lifecycle.
"""
