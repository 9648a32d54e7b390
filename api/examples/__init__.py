"""Examples of the OpenAPI document, made from the dataclasses of the responses so that they always match."""
