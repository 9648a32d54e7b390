"""The payer of a window's energy: the rule of docs/ARCHITECTURE.md, case by case."""

from __future__ import annotations

import pytest

from streams.core.attribution.policy import DEFAULT_WEIGHTS, FloorVersion, Policy
from tests.streams.core.case_table import T0, play, spec
from tests.support.partition_log import NEVER, policy

H100_100W = policy({"H100": 100_000})


def idle_borne(by: str) -> Policy:
    return policy({"H100": 100_000}, idle=by)


def test_active_energy_is_split_by_work():
    spec("""
        power  w g0 H100  0..10  100J
        tokens w acme   m r1  0/1..9  100+0
        tokens w globex m r2  0/1..9  0+100      # A completion token is 3 times the work of a prompt token.
        =
        0  w H100 acme   m  active 25J  tokens 100/0/0  requests 1
        0  w H100 globex m  active 75J  tokens 0/0/100  requests 1
        """)


def test_the_idle_floor_is_split_off_first_into_its_own_column():
    spec("""
        power  w g0 H100  0..10  3000J
        tokens w acme   m r1  0/1..9  300+0
        tokens w globex m r2  0/1..9  100+0
        =
        0  w H100 acme   m  active 1500J  idle 750J  tokens 300/0/0  requests 1  floor_version 1
        0  w H100 globex m  active 500J   idle 250J  tokens 100/0/0  requests 1  floor_version 1
        """, policy=H100_100W)  # fmt: skip


def test_the_floor_counts_only_measured_time():
    spec("""
        power  w g0 H100  0..4  1000J
        tokens w acme m r1  0/1..9  300+0
        =
        0  w H100 acme m  active 600J  idle 400J  tokens 300/0/0  requests 1
        """, policy=H100_100W)  # fmt: skip


def test_energy_below_the_floor_is_all_idle():
    spec("""
        power  w g0 H100  0..10  900J
        tokens w acme m r1  0/1..9  300+0
        =
        0  w H100 acme m  idle 900J  tokens 300/0/0  requests 1
        """, policy=H100_100W)  # fmt: skip


def test_without_a_floor_all_energy_is_active_under_version_0():
    spec("""
        power  w g0 A100  0..10  3000J
        tokens w acme m r1  0/1..9  300+0
        =
        0  w A100 acme m  active 3000J  tokens 300/0/0  requests 1  floor_version 0  weights_version 1
        """, policy=H100_100W)  # fmt: skip


def test_idle_by_work_is_borne_by_the_tenants():
    spec("""
        power  w g0 H100  0..10  3000J  owner=lab
        tokens w acme m r1  0/1..9  300+0
        =
        0  w H100 acme m  active 2000J  idle 1000J  tokens 300/0/0  requests 1
        """, policy=idle_borne("by-work"))  # fmt: skip


def test_idle_by_owner_is_borne_by_the_workloads_owner():
    spec("""
        power  w g0 H100  0..10  3000J  owner=lab
        tokens w acme m r1  0/1..9  300+0
        =
        0  w H100 acme m  active 2000J  tokens 300/0/0  requests 1
        0  w H100 lab  -  idle 1000J
        """, policy=idle_borne("owner"))  # fmt: skip


def test_idle_by_owner_without_an_owner_is_charged_to_idle():
    spec("""
        power  w g0 H100  0..10  3000J
        tokens w acme m r1  0/1..9  300+0
        =
        0  w H100 acme     m  active 2000J  tokens 300/0/0  requests 1
        0  w H100 __idle__ -  idle 1000J
        """, policy=idle_borne("owner"))  # fmt: skip


def test_idle_apart_is_charged_to_idle_even_with_an_owner():
    spec("""
        power  w g0 H100  0..10  3000J  owner=lab
        tokens w acme m r1  0/1..9  300+0
        =
        0  w H100 acme     m  active 2000J  tokens 300/0/0  requests 1
        0  w H100 __idle__ -  idle 1000J
        """, policy=idle_borne("apart"))  # fmt: skip


@pytest.mark.parametrize("by", ["by-work", "owner", "apart"])
def test_power_without_tokens_is_idle_and_charged_to_the_owner(by):
    spec("""
        power w g0 H100  0..10  3000J  owner=lab
        =
        0  w H100 lab -  idle 3000J
        """, policy=idle_borne(by))  # fmt: skip


@pytest.mark.parametrize("by", ["by-work", "owner", "apart"])
def test_power_without_tokens_or_owner_is_charged_to_idle(by):
    spec("""
        power w g0 H100  0..10  3000J
        =
        0  w H100 __idle__ -  idle 3000J
        """, policy=idle_borne(by))  # fmt: skip


def test_an_owner_who_is_also_a_tenant_has_one_row_for_each():
    spec("""
        power  w g0 H100  0..10  3000J  owner=acme
        tokens w acme m r1  0/1..9  300+0
        =
        0  w H100 acme m  active 2000J  tokens 300/0/0  requests 1
        0  w H100 acme -  idle 1000J
        """, policy=idle_borne("owner"))  # fmt: skip


def test_tokens_without_power_are_an_unmetered_row():
    spec("""
        tokens w acme m r1  0/1..9  300-100+10
        =
        0  w - acme m  tokens 300/100/10  requests 1  method unmetered  work 230000
        """)


def test_measured_zero_energy_is_not_unmetered():
    spec("""
        power  w g0 H100  0..10  0J
        tokens w acme m r1  0/1..9  300+0
        =
        0  w H100 acme m  tokens 300/0/0  requests 1  method counter
        """)


def test_measured_zero_energy_without_tokens_is_a_row():
    spec("""
        power w g0 H100  0..10  0J  owner=lab
        =
        0  w H100 lab -  method counter
        """)


def test_a_request_without_tokens_counts_and_bears_nothing():
    spec("""
        power  w g0 H100  0..10  100J
        tokens w acme   m r1  0/1..9  0+0
        tokens w globex m r2  0/1..9  10+0
        =
        0  w H100 acme   m  requests 1
        0  w H100 globex m  active 100J  tokens 10/0/0  requests 1
        """)


def test_a_failed_request_bears_what_it_did_before_it_failed():
    spec("""
        power  w g0 H100  0..10  100J
        tokens w acme   m r1  0/1..9  10+0  error
        tokens w globex m r2  0/1..9  10+0
        =
        0  w H100 acme   m  active 50J  tokens 10/0/0  requests 1  failures 1
        0  w H100 globex m  active 50J  tokens 10/0/0  requests 1
        """)


def test_a_fully_cached_prompt_is_no_work():
    spec("""
        power  w g0 H100  0..10  100J
        tokens w acme   m r1  0/1..9  500-500+0
        tokens w globex m r2  0/1..9  10+0
        =
        0  w H100 acme   m  tokens 500/500/0  requests 1  work 0
        0  w H100 globex m  active 100J  tokens 10/0/0  requests 1
        """)


def test_request_seconds_are_the_work_where_no_request_has_token_work():
    spec("""
        power  w g0 H100  0..10  100J
        tokens w acme   m r1  0/1..9  500-500+0
        tokens w globex m r2  1..4    0+0
        =
        0  w H100 acme   m  active 75J  tokens 500/500/0  requests 1  work 9000  weights_version 1000000001
        0  w H100 globex m  active 25J  requests 1        work 3000  weights_version 1000000001
        """)


def test_a_request_without_tokens_bears_nothing_beside_token_work():
    spec("""
        power  w g0 H100  0..20  200J
        tokens w acme   m r1  0..20   100+0
        tokens w globex m r2  1..14   0+0
        =
        0   w H100 acme   m  active 100J  tokens 50/0/0  work 50000  weights_version 1
        10  w H100 acme   m  active 100J  tokens 50/0/0  requests 1
        10  w H100 globex m  requests 1  weights_version 1
        """)


def test_a_request_without_tokens_and_duration_is_work_too():
    spec("""
        power  w g0 H100  0..10  100J
        tokens w acme m r1  4..4  0+0  error
        =
        0  w H100 acme m  active 100J  requests 1  failures 1  work 1
        """)


def test_the_owner_bears_idle_energy_beside_request_seconds_too():
    spec("""
        power  w g0 H100  0..10  3000J  owner=lab
        tokens w acme m r1  0..9  0+0
        =
        0  w H100 acme m  active 2000J  requests 1
        0  w H100 lab  -  idle 1000J
        """, policy=idle_borne("owner"))  # fmt: skip


def test_two_workloads_in_turn_on_a_gpu_pay_for_their_own_time():
    spec("""
        power  v g0 H100  0..4   40J
        power  w g0 H100  4..10  600J
        tokens v acme   m r1  0/1..4  10+0
        tokens w globex m r2  4/5..9  10+0
        =
        0  v H100 acme   m  active 40J   tokens 10/0/0  requests 1
        0  w H100 globex m  active 600J  tokens 10/0/0  requests 1
        """)


def test_tokens_are_divided_over_hardware_types_as_energy_is_and_sum_exactly():
    spec("""
        power  w g0 A100  0..10  100J
        power  w g1 H100  0..10  200J
        tokens w acme m r1  0/1..9  100+10
        =
        0  w A100 acme m  active 100J  tokens 33/0/3  work 43333
        0  w H100 acme m  active 200J  tokens 67/0/7  work 86666  requests 1
        """)


def test_a_nodes_host_is_split_by_work_and_bears_no_tokens():
    spec("""
        power  w g0     H100  0..10  100J
        power  w host-n host  0..10  40J
        tokens w acme   m r1  0/1..9  100+0
        tokens w globex m r2  0/1..9  0+100
        =
        0  w H100 acme   m  active 25J  tokens 100/0/0  requests 1  work 100000  weights_version 1
        0  w H100 globex m  active 75J  tokens 0/0/100  requests 1  work 300000  weights_version 1
        0  w host acme   m  active 10J  work 0  weights_version 1  floor_version 0
        0  w host globex m  active 30J  work 0  weights_version 1  floor_version 0
        """)


def test_a_nodes_host_alone_bears_the_tokens():
    spec("""
        power  w host-n host  0..10  40J
        tokens w acme m r1  0/1..9  100+0
        =
        0  w host acme m  active 40J  tokens 100/0/0  requests 1  work 100000
        """)


def test_a_nodes_host_beside_gpus_without_energy_bears_the_tokens():
    spec("""
        power  w g0     H100  0..10  0J
        power  w host-n host  0..10  40J
        tokens w acme m r1  0/1..9  100+0
        =
        0  w H100 acme m
        0  w host acme m  active 40J  tokens 100/0/0  requests 1
        """)


def test_a_nodes_host_has_its_own_idle_floor():
    spec("""
        power  w g0     H100  0..10  3000J
        power  w host-n host  0..10  500J
        tokens w acme m r1  0/1..9  300+0
        =
        0  w H100 acme m  active 2000J  idle 1000J  tokens 300/0/0  requests 1
        0  w host acme m  active 400J   idle 100J
        """, policy=policy({"H100": 100_000, "host": 10_000}))  # fmt: skip


def test_a_nodes_host_without_work_or_workload_is_idle_or_unallocated():
    spec("""
        power  w  g0     H100  0..10  30J  owner=lab
        power  w  host-w host  0..10  4J   owner=lab
        power  ~n host-n host  0..10  5J
        =
        0  w  H100 lab -  idle 30J
        0  w  host lab -  idle 4J
        0  ~n host __unallocated__ -  unallocated 5J
        """)


def test_request_seconds_are_borne_by_gpus_and_split_the_hosts_energy_too():
    spec("""
        power  w g0     H100  0..10  100J
        power  w host-n host  0..10  40J
        tokens w acme   m r1  0..6   0+0
        tokens w globex m r2  0..2   0+0
        =
        0  w H100 acme   m  active 75J  requests 1  work 6000  weights_version 1000000001
        0  w H100 globex m  active 25J  requests 1  work 2000  weights_version 1000000001
        0  w host acme   m  active 30J  weights_version 1000000001
        0  w host globex m  active 10J  weights_version 1000000001
        """)


def test_a_hardware_type_without_energy_is_divided():
    spec("""
        power  w g0 A100  0..10  0J
        power  w g1 H100  0..10  200J
        tokens w acme m r1  0/1..9  100+10
        =
        0  w A100 acme m  tokens 0/0/0
        0  w H100 acme m  active 200J  tokens 100/0/10  requests 1
        """)


def test_gpus_without_a_workload_are_unallocated_per_node():
    spec("""
        power ~n1 g0 H100  0..10  100J
        power ~n2 g1 H100  0..10  50J  owner=lab
        =
        0  ~n1 H100 __unallocated__ -  unallocated 100J
        0  ~n2 H100 __unallocated__ -  unallocated 50J
        """)


def test_tokens_of_unallocated_gpus_are_kept_and_bear_nothing():
    spec("""
        power  ~n1 g0 H100  0..10  100J
        tokens ~n1 acme m r1  0/1..9  100+10
        =
        0  ~n1 H100 __unallocated__ -  unallocated 100J
        0  ~n1 -    acme m            tokens 100/0/10  requests 1  method unmetered
        """)


def test_equal_remainders_are_served_in_the_order_of_names():
    spec("""
        power  w g0 H100  0..10  5uJ
        tokens w globex m r3  0/1..9  10+0
        tokens w initech m r1  0/1..9  10+0
        tokens w acme   m r2  0/1..9  10+0
        =
        0  w H100 acme    m  active 2uJ  tokens 10/0/0  requests 1
        0  w H100 globex  m  active 2uJ  tokens 10/0/0  requests 1
        0  w H100 initech m  active 1uJ  tokens 10/0/0  requests 1
        """)


def test_a_window_shows_the_worst_evidence_among_its_intervals():
    """Across a counter's reset the node estimates from watts; the next interval is the counter's again."""
    spec("""
        power  w g0 H100   0..10  100J
        power  w g0 H100  10..13  30J   method=estimated
        power  w g0 H100  13..20  70J
        power  w g0 H100  20..30  100J  method=integrated
        =
        0   w H100 __idle__ -  idle 100J  method counter
        10  w H100 __idle__ -  idle 100J  method estimated
        20  w H100 __idle__ -  idle 100J  method integrated
        """)


def test_a_gpu_with_two_owners_in_a_window_is_charged_to_the_greater_name_in_any_order():
    for lines in (("ann", "bob"), ("bob", "ann")):
        spec(f"""
        power w g0 H100  0..5   10J  owner={lines[0]}
        power w g0 H100  5..10  10J  owner={lines[1]}
        =
        0  w H100 bob -  idle 20J
        """)


def test_floors_are_valid_by_event_time_and_the_row_names_the_version():
    floors = (FloorVersion("H100", 0, T0 + 10_000, 100_000, 4), FloorVersion("H100", T0 + 10_000, NEVER, 50_000, 5))
    spec("""
        power  w g0 H100  0..20  6000J
        tokens w acme m r1  0/0..20  0+100
        =
        0   w H100 acme m  active 2000J  idle 1000J  tokens 0/0/50  floor_version 4
        10  w H100 acme m  active 2500J  idle 500J   tokens 0/0/50  floor_version 5  requests 1
        """, policy=Policy(floors))  # fmt: skip


def test_weights_are_valid_by_model_and_the_row_names_the_version():
    weights = (DEFAULT_WEIGHTS, DEFAULT_WEIGHTS._replace(model="big", prompt_milli=9_000, version=2))
    spec("""
        power  w g0 H100  0..10  100J
        tokens w acme big   r1  0/1..9  10+0
        tokens w acme small r2  0/1..9  10+0
        =
        0  w H100 acme big    active 90J  tokens 10/0/0  requests 1  weights_version 2  work 90000
        0  w H100 acme small  active 10J  tokens 10/0/0  requests 1  weights_version 1  work 10000
        """, policy=Policy(weights=weights))  # fmt: skip


def requests_of(run, *columns):
    return sorted(tuple(r[c] for c in columns) for r in run.worker.store.live("request_energy"))


def test_a_requests_joules_are_its_share_of_its_tenants_energy():
    run = spec("""
        power  w g0 H100  0..10  100J
        tokens w acme m r1  0/1..9  30+0
        tokens w acme m r2  0/1..9  10+0
        =
        0  w H100 acme m  active 100J  tokens 40/0/0  requests 2
        """)
    assert requests_of(run, "request_id", "active_uj") == [("r1", 75_000_000), ("r2", 25_000_000)]


def test_two_requests_of_one_id_and_end_are_one_row_for_both():
    """They are in different events, so neither is a duplicate; the table has one key for them."""
    run = spec("""
        power  w g0 H100  0..10  100J
        tokens w acme m r1  2/3..9  30+0
        tokens w acme m r1  1/2..9  10+0
        tokens w acme m r2  0/1..9  40+0
        =
        0  w H100 acme m  active 100J  tokens 80/0/0  requests 3
        """)
    assert requests_of(run, "request_id", "t_start", "prompt_tokens", "active_uj") == [
        ("r1", T0 + 1_000, 40, 50_000_000),
        ("r2", T0, 40, 50_000_000),
    ]


def test_two_requests_of_one_id_on_two_models_are_two_rows():
    run = spec("""
        power  w g0 H100  0..10  100J
        tokens w acme m1 r1  2/3..9  30+0
        tokens w acme m2 r1  2/3..9  10+0
        =
        0  w H100 acme m1  active 75J  tokens 30/0/0  requests 1
        0  w H100 acme m2  active 25J  tokens 10/0/0  requests 1
        """)
    assert requests_of(run, "model", "active_uj") == [("m1", 75_000_000), ("m2", 25_000_000)]


def test_a_late_request_with_a_final_id_has_a_row_of_its_own():
    run = spec("""
        power  w g0 H100  0..10  100J
        tokens w acme m r1  0/1..9  10+0
        beat 200
        -- flush
        tokens w acme m r1  0/1..9  30+0
        beat 210
        -- flush
        =
        0  w H100 acme m  active 100J  tokens 40/0/0  requests 2  revision 1
        """)
    assert requests_of(run, "prompt_tokens", "active_uj") == [(10, 25_000_000), (30, 75_000_000)]


def test_nothing_measured_and_no_work_is_no_row():
    assert play("beat 100").worker.store.live("ledger") == []
