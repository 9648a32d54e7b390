"""Fields of the access logs of known gateways, as their documents name them."""

from __future__ import annotations

from collections.abc import Mapping

from producers.gateways.accesslog.lines import LineRules
from producers.gateways.request_fields import RequestFields

FAIRNESS_ID = "x-llm-d-inference-fairness-id"
"""Header of llm-d that names the flow of a request: a tenant where a trusted proxy sets it."""
_KONG = ("ai.proxy", "ai.ai-proxy", "ai.ai-proxy-advanced")
"""Objects of Kong's AI plug-ins; since 3.11 one, before that one of each plug-in's name."""


def _kong(*names: str) -> tuple[str, ...]:
    return tuple(f"{plugin}.{name}" for plugin in _KONG for name in names)


_ENVOY_USAGE = "gen_ai.usage"
PRESETS: Mapping[str, LineRules] = {
    "nginx": LineRules(
        RequestFields(
            tenant=("tenant", "remote_user"), request_id=("request_id",), start=(),
            end=("msec", "time_iso8601", "time_local"), duration_s=("request_time",),
            to_first_s=("upstream_header_time",), api_base=("upstream_addr",), route=("server_name",),
        ),
    ),
    "traefik": LineRules(
        RequestFields(
            tenant=("ClientUsername",), request_id=("request_X-Request-Id",), start=("StartUTC", "StartLocal"), end=(),
            duration_ns=("Duration",), status=("DownstreamStatus", "OriginStatus"), trace_id=("trace_id", "TraceId"),
            api_base=("ServiceURL.Host", "ServiceURL", "ServiceAddr"), route=("ServiceName", "RouterName"),
        ),
    ),
    "kong": LineRules(
        RequestFields(
            tenant=("consumer.username", "consumer.custom_id", "consumer.id"), request_id=("request.id",),
            start=("started_at",), end=(), duration_ms=("latencies.request",),
            to_first_ms=_kong("usage.time_to_first_token"), status=("response.status",),
            model=_kong("meta.response_model", "meta.request_model"), provider=_kong("meta.provider_name"),
            usage=_kong("usage"),
            prompt_tokens=_kong("usage.prompt_token"), completion_tokens=_kong("usage.completion_token"),
            total_tokens=(), trace_id=("trace_id.w3c",), api_base=("service.host",), route=("route.name",),
        ),
    ),
    "apisix": LineRules(
        RequestFields(
            tenant=("consumer_name", "consumer.username"), request_id=("apisix_request_id", "request_id"),
            start=("start_time",), end=("time_iso8601", "msec"), duration_s=("request_time",),
            duration_ms=("latency", "apisix_upstream_response_time"),
            to_first_ms=("llm_time_to_first_token", "llm_summary.duration"), status=("status", "response.status"),
            model=("llm_model", "llm_summary.model", "request_llm_model", "llm_summary.request_model"),
            usage=("llm_summary",), prompt_tokens=("llm_prompt_tokens",), completion_tokens=("llm_completion_tokens",),
            total_tokens=("llm_total_tokens",), cached_tokens=("llm_cache_read_input_tokens",),
            cache_write_tokens=("llm_cache_creation_input_tokens",), reasoning_tokens=("llm_reasoning_tokens",),
            api_base=("upstream_addr", "upstream"), route=("route_id",),
        ),
        never={"request_type": ("traditional_http",)}, zero_is_unknown=True, cache_as_provider=True,
    ),
    "envoy-ai-gateway": LineRules(
        RequestFields(
            tenant=("tenant",), request_id=("x-request-id", "request_id"), start=("start_time",), end=(),
            duration_ms=("duration",), status=("response_code",),
            model=("gen_ai.response.model", "gen_ai.request.model"), prompt_tokens=(f"{_ENVOY_USAGE}.input_tokens",),
            completion_tokens=(f"{_ENVOY_USAGE}.output_tokens",), total_tokens=(f"{_ENVOY_USAGE}.total_tokens",),
            cached_tokens=(f"{_ENVOY_USAGE}.cached_input_tokens", f"{_ENVOY_USAGE}.cache_read.input_tokens"),
            cache_write_tokens=(
                f"{_ENVOY_USAGE}.cache_creation_input_tokens", f"{_ENVOY_USAGE}.cache_creation.input_tokens",
            ),
            reasoning_tokens=(f"{_ENVOY_USAGE}.reasoning_tokens", f"{_ENVOY_USAGE}.reasoning.output_tokens"),
            session_id=("session.id",), api_base=("upstream_host", "upstream_cluster"),
            route=("gen_ai.provider.name", "route_name"), provider=("gen_ai.provider.name",),
        ),
        never={"mcp.method.name": ("?*",)},
    ),
    "llm-d": LineRules(
        RequestFields(
            tenant=(FAIRNESS_ID,), request_id=("x-request-id", "request_id"), start=("start_time",), end=(),
            duration_ms=("duration",), status=("response_code",), api_base=("upstream_host",), route=("route_name",),
        ),
    ),
}  # fmt: skip


def line_rules(preset: str, fields: RequestFields, only: Mapping[str, tuple[str, ...]]) -> LineRules:
    """Return the rules of a preset ("" for none) with the fields and the filter that the options name."""
    rules = PRESETS.get(preset, LineRules(RequestFields()))
    own = {name: getattr(fields, name) for name in fields.model_fields_set}
    return rules._replace(fields=rules.fields.model_copy(update=own), only={**rules.only, **only})
