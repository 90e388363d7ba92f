"""Reports, counters and links: docs/protocol.md §4, §6."""

import os
import secrets
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature

from firmware_stubs.ca import DeviceCA
from firmware_stubs.counters import CounterFile
from firmware_stubs.device import Device
from firmware_stubs.errors import DeviceGoneError, StateError
from firmware_stubs.firmware import GPU_CURRENT, GPU_OLDER, SWITCH_CURRENT
from firmware_stubs.links import gpu_links, switch_links
from tests.firmware.helpers import verified_report

GPU_TLVS = [6, 14, 15, 16, 17, 18, 19, 3, 4, 12, 13, 11, 20, 21, 22, 34, 36, 0x5401, 0x5402]
SWITCH_TLVS = [6, 22, 12, 26, 23, 24, 25]


@pytest.fixture
def gpu(tmp_path: Path, ca: DeviceCA) -> Device:
    return Device.manufacture(tmp_path / "gpu-0", ca, GPU_CURRENT).powered_on()


def test_gpu_report_has_the_layout_of_real_hardware(gpu: Device) -> None:
    nonce = secrets.token_bytes(32)
    entry = secrets.token_bytes(96)
    report = verified_report(gpu.report(nonce, bytes(144), [entry]), gpu.chain_der())
    assert report.nonce == nonce
    assert list(report.blocks) == list(range(1, 65))
    assert report.tlv_order == GPU_TLVS
    assert report.tlvs[20] == GPU_CURRENT.fwid
    assert report.tlvs[3] == b"610.21\0"
    b0, b1, b2, b3, b4 = report.tlvs[6][:5]
    assert f"{b3:02X}.{b2:02X}.{b1:02X}.{b0:02X}.{b4:02X}" == GPU_CURRENT.vbios
    assert len(report.tlvs[12]) == 256
    assert report.tlvs[0x5401] == entry
    assert all(digest in GPU_CURRENT.measurements[index] for index, digest in report.blocks.items())


def test_switch_report_has_the_layout_of_real_hardware(tmp_path: Path, ca: DeviceCA) -> None:
    switch = Device.manufacture(tmp_path / "switch-0", ca, SWITCH_CURRENT).powered_on()
    report = verified_report(switch.report(bytes(32), bytes(128)), switch.chain_der())
    assert list(report.blocks) == list(range(1, 32))
    assert report.tlv_order == SWITCH_TLVS
    assert report.tlvs[22] == switch.pdi
    assert len(report.tlvs[12]) == 108


def test_older_firmware_writes_neither_log_nor_counters(tmp_path: Path, ca: DeviceCA) -> None:
    gpu = Device.manufacture(tmp_path / "gpu-0", ca, GPU_OLDER).powered_on()
    report = verified_report(gpu.report(bytes(32), bytes(144), [bytes(96)]), gpu.chain_der())
    assert report.tlv_order == GPU_TLVS[:-2]


@pytest.mark.parametrize("position", [4, 35, 60, 3570, 3700, -97, -96, -1])
def test_every_signed_byte_counts(gpu: Device, position: int) -> None:
    report = bytearray(gpu.report(bytes(32), bytes(144)))
    report[position] ^= 1
    with pytest.raises(InvalidSignature):
        verified_report(bytes(report), gpu.chain_der())


def test_counters_survive_power_loss_and_never_repeat(tmp_path: Path, ca: DeviceCA) -> None:
    Device.manufacture(tmp_path / "gpu-0", ca, GPU_CURRENT)
    seen = []
    for _ in range(3):
        gpu = Device.load(tmp_path / "gpu-0").powered_on()
        seen += [verified_report(gpu.report(bytes(32), None), gpu.chain_der()).counters for _ in range(2)]
    assert seen == [(1, 1), (1, 2), (2, 3), (2, 4), (3, 5), (3, 6)]


def test_report_that_cannot_be_counted_is_not_signed(gpu: Device, tmp_path: Path) -> None:
    again = Device.load(tmp_path / "gpu-0").powered_on()  # a reset that the first holder did not see
    with pytest.raises(DeviceGoneError):
        gpu.report(bytes(32), None)
    (tmp_path / "gpu-0").rename(tmp_path / "gpu-1")
    with pytest.raises(DeviceGoneError):
        again.report(bytes(32), None)


def test_torn_write_costs_the_new_value_and_never_the_old(tmp_path: Path) -> None:
    counters = CounterFile.create(tmp_path / "counters")
    boot = counters.raise_boot().boot
    values = [counters.raise_attestation(boot) for _ in range(5)]
    assert all(a < b for a, b in pairwise(values))
    for slot in (0, 48):
        raw = bytearray((tmp_path / "counters").read_bytes())
        raw[slot + 20] ^= 1
        torn = tmp_path / f"torn-{slot}"
        torn.write_bytes(raw)
        assert CounterFile(torn).raise_attestation(boot) >= values[-1]
    (tmp_path / "counters").write_bytes(os.urandom(96))
    with pytest.raises(StateError):
        counters.raise_attestation(boot)
    with pytest.raises(StateError):
        CounterFile.create(tmp_path / "counters")


@pytest.mark.parametrize("switch_count", [1, 2, 3, 4])
@pytest.mark.parametrize("gpu_count", [1, 7, 8])
def test_links_name_each_other(switch_count: int, gpu_count: int) -> None:
    gpus = {slot: secrets.token_bytes(8) for slot in range(gpu_count)}
    switches = [secrets.token_bytes(8) for _ in range(switch_count)]
    ours = gpu_links(switches)
    assert ours is not None
    assert len(ours) == 144
    named = [ours[p : p + 8][::-1] for p in range(0, 144, 8)]
    assert set(named) == set(switches)
    for position in range(switch_count):
        theirs = switch_links(position, switch_count, gpus)
        assert len(theirs) == 128
        assert {slot: theirs[8 * slot : 8 * slot + 8] for slot in gpus} == gpus
        assert theirs[8 * gpu_count : 64] == b"\xff" * (64 - 8 * gpu_count)
        assert set(theirs[64:]) - {0xFF} == set(gpus)
        if switch_count == 4:
            assert theirs[64:].count(0) == named.count(switches[position])


def test_board_without_switches_has_no_links() -> None:
    assert gpu_links([]) is None
