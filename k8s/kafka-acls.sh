#!/bin/sh
# ACLs of Wattlog's Kafka users, one user per role (docs/kafka-access.md). Run it as an administrator of a cluster whose
# brokers have an authorizer and `allow.everyone.if.no.acl.found=false`:
#   sh k8s/kafka-acls.sh kafka:9093 admin.properties
# It adds and removes nothing else, and may run again. KAFKA_ACLS names the tool if it is not kafka-acls.sh on the PATH.
set -eu
bootstrap=$1 config=$2

allow() {
  user=$1
  shift
  "${KAFKA_ACLS:-kafka-acls.sh}" --bootstrap-server "$bootstrap" --command-config "$config" \
    --add --allow-principal "User:$user" "$@"
}

# Sources write, and read nothing but notices that another sender took their numbers. Write includes what an idempotent
# producer needs.
allow wattlog-agent --operation Write --topic wattlog.power.v1 --topic wattlog.usage.v1
allow wattlog-host --operation Write --topic wattlog.usage.v1
allow wattlog-servers --operation Write --topic wattlog.tokens.v1 --topic wattlog.usage.v1
allow wattlog-ingest --operation Write --topic wattlog.tokens.v1 --topic wattlog.usage.v1
allow wattlog-agent --operation Read --topic wattlog.alerts.v1
allow wattlog-host --operation Read --topic wattlog.alerts.v1
allow wattlog-servers --operation Read --topic wattlog.alerts.v1
allow wattlog-ingest --operation Read --topic wattlog.alerts.v1
# Only workers read events. The groups are the setting kafka_group, and that with -usage appended.
allow wattlog-worker --operation Read --topic wattlog.power.v1 --topic wattlog.tokens.v1 --topic wattlog.usage.v1
allow wattlog-worker --operation Read --group wattlog --group wattlog-usage
allow wattlog-worker --operation Write --topic wattlog.deadletter.v1 --topic wattlog.alerts.v1
# `wattlog migrate` looks which topics exist, and creates the others.
allow wattlog-migrate --operation Create --operation Describe --topic wattlog.power.v1 --topic wattlog.tokens.v1 --topic wattlog.usage.v1 --topic wattlog.alerts.v1 --topic wattlog.deadletter.v1
