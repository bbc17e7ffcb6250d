"""What a report from a device should show, and the verdict on it."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu import bars, races, report


def speed_report(**medians: dict[str, float]) -> dict[str, Any]:
    """A report whose stage of speed has these contenders of each race."""
    names = {race.name: race for race in races.RACES}
    parts: dict[str, Any] = {
        "chains": {"found": {"captured": {"of_copy_ceiling": 0.9}}},
        "process of jax": {"found": {"lines": 3}},
        "late": {"status": "late"},
    }
    for name, rows in medians.items():
        race = names[name]
        contenders = {
            key: {"median": median, "of_product_ceiling": race.flops / median / 1e15}
            for key, median in rows.items()
        }
        contenders["gradnet-eager"] = {"median": 1e-9}  # op by op: no bar is about it
        contenders["jax-wrong"] = {"median": 1e-9, "error": "its first loss is another"}
        parts[name] = {
            "found": {
                "workload": race.workload.record(),
                "precision": race.precision,
                "contenders": contenders,
            }
        }
    return {"stages": {"speed": {"parts": parts}}}


def test_the_verdict_on_each_bar() -> None:
    fleet = next(race for race in races.RACES if race.name == "fleet, bfloat16")
    found = speed_report(
        **{
            "mnist, float32": {"gradnet-several": 13e-6, "torch-graph": 27e-6, "jax-scan": 26e-6},
            "mnist3, float32": {"gradnet-captured": 20e-6, "torch-graph": 28e-6},
            "fleet, bfloat16": {"gradnet-captured": fleet.flops / 0.8e15, "jax-jit": 1.0},
            "fused64-16384, bfloat16": {"gradnet-fused": 3e-5, "gradnet-unfused": 6e-5},
            "fused128-131072, float16": {"gradnet-fused": 3e-4, "gradnet-unfused": 2e-4},
        }
    )
    told = {bar.name: bar for bar in bars.bars(found)}
    assert {name: bar.verdict for name, bar in told.items() if bar.measured is not None} == {
        "mnist, float32, times as fast as the best peer": bars.MET,
        "mnist3, float32, times as fast as the best peer": bars.MISSED,
        # JAX alone cannot tell that it is met.
        "fleet, bfloat16, times as fast as the best peer": bars.UNKNOWN,
        "mnist, microseconds a step": bars.MISSED,
        "fleet, bfloat16, of the ceiling of products": bars.MISSED,
        "fused64-16384, bfloat16, fused against one product after the other": bars.MET,
        "fused128-131072, float16, fused against one product after the other": bars.MISSED,
        "elementwise chain, of the ceiling of copies": bars.MET,
    }
    assert told["mnist3, float32, times as fast as the best peer"].about == "without jax"
    left = [bar.verdict for bar in told.values() if bar.measured is None]
    assert len(left) > 20
    assert set(left) == {bars.UNKNOWN}
    (shown,) = report.verdicts(found)
    row = next(line for line in shown.splitlines() if "mnist, microseconds" in line)
    assert [cell.strip() for cell in row.split("|")[2:5]] == ["at most 12", "13", bars.MISSED]


def test_each_bar_has_a_verdict_without_a_single_race() -> None:
    none = {bar.name: bar.verdict for bar in bars.bars({"stages": {}})}
    assert set(none.values()) == {bars.UNKNOWN}
    names = set(none)
    for work in ("tiny", "tabular", "mnist", "mnist3", "big", "wide", "middle", "fleet"):
        assert f"{work}, float32, times as fast as the best peer" in names
    assert "lecture, float64, times as fast as the best peer" in names
    for precision in ("float32", "tf32", "bfloat16", "float16"):
        assert f"fleet, {precision}, of the ceiling of products" in names
    for width in (64, 128):
        for rows in (1 << 14, 1 << 17):
            fused = f"fused{width}-{rows}, bfloat16, fused against one product after the other"
            assert fused in names
    # The peers would scale losses.
    assert not any("float16, times" in name.replace("bfloat16", "") for name in names)
    assert "wanted" in next(report.verdicts({"stages": {}}))
