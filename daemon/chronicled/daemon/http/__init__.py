"""The HTTP API: one route table drives routing, validation and the OpenAPI document."""
