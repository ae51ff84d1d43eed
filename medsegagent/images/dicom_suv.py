"""PET: from Bq/mL to body-weight SUV, where the header allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from medsegagent.images.dicom_values import item_of, number, text

if TYPE_CHECKING:
    from pydicom import Dataset

_SMALLEST_DOSE_BQ = 1e5
"""Below this, the dose was typed in MBq or is nonsense; patients get 1e7 to 1e9 Bq."""
_MOST_HALF_LIVES = 12.0
_PHILIPS_SUV_FACTOR = (0x7053, 0x1000)
_GE_SCAN_START = (0x0009, 0x100D)


class NotConvertibleError(ValueError):
    """Says which fact is missing; never quotes a header."""


def suv_factor(headers: Sequence[Dataset]) -> float:
    """What to multiply rescaled values with to get SUVbw (g/mL).

    Args:
        headers: Of all slices of one PET series.

    Raises:
        NotConvertibleError: If the header lacks a fact that the conversion needs, or one is impossible.

    Source:
        QIBA SUV technical subcommittee, "Vendor-neutral pseudo-code for SUV calculation" (happy path).
    """
    first = headers[0]
    units = text(first, "Units")
    if units == "GML":
        return 1.0
    if units == "CNTS" and (factor := _factor(_private(first, _PHILIPS_SUV_FACTOR, "Philips"))) > 0:
        return factor
    if units != "BQML":
        raise NotConvertibleError(f"the unit is {units or 'not given'}")
    if "ATTN" not in text(first, "CorrectedImage"):
        raise NotConvertibleError("the image is not corrected for attenuation")
    weight = number(first, "PatientWeight") or 0.0
    if not 0 < weight < 700:
        raise NotConvertibleError("the patient's weight is not given")
    return weight * 1000.0 / _dose_at_reference(headers)


def _dose_at_reference(headers: Sequence[Dataset]) -> float:
    """The activity in Bq left at the time to which the image's decay is corrected."""
    first = headers[0]
    tracer: Any = item_of(first, "RadiopharmaceuticalInformationSequence")
    dose = number(tracer, "RadionuclideTotalDose") or 0.0
    if dose < _SMALLEST_DOSE_BQ:
        raise NotConvertibleError("the injected dose is not given in Bq")
    correction = text(first, "DecayCorrection")
    if correction == "ADMIN":
        return dose
    if correction != "START":
        raise NotConvertibleError("the decay correction is not given")
    half_life = number(tracer, "RadionuclideHalfLife") or 0.0
    scan = _scan_start(headers)
    injected = _injection(tracer, scan)
    if half_life <= 0 or scan is None or injected is None:
        raise NotConvertibleError("the half-life, the time of injection or the time of the scan is not given")
    elapsed = (scan - injected).total_seconds()
    if not 0 <= elapsed <= _MOST_HALF_LIVES * half_life:
        raise NotConvertibleError("the times of injection and scan contradict each other")
    return float(dose * 2.0 ** (-elapsed / half_life))


def _scan_start(headers: Sequence[Dataset]) -> datetime | None:
    """The series' time; where it is later than an image (a derived series' date), the vendor's or the first image's."""
    first = headers[0]
    series = _moment(text(first, "SeriesDate"), text(first, "SeriesTime"))
    images = [_moment(text(header, "AcquisitionDate"), text(header, "AcquisitionTime")) for header in headers]
    earliest = min((image for image in images if image is not None), default=None)
    if series is not None and (earliest is None or series <= earliest):
        return series
    return _datetime(_private(first, _GE_SCAN_START, "GEMS")) or earliest


def _injection(tracer: Any, scan: datetime | None) -> datetime | None:
    stated = _datetime(text(tracer, "RadiopharmaceuticalStartDateTime"))
    if stated is not None or scan is None:
        return stated
    moment = _moment(scan.strftime("%Y%m%d"), text(tracer, "RadiopharmaceuticalStartTime"))
    if moment is not None and moment > scan:
        return moment - timedelta(days=1)  # injected before midnight
    return moment


def _moment(date: Any, time: Any) -> datetime | None:
    return _datetime(f"{date}{time}") if date and time else None


def _factor(value: Any) -> float:
    try:
        factor = float(value or 0)
    except (TypeError, ValueError):
        return 0.0
    return factor if math.isfinite(factor) else 0.0


def _datetime(value: Any) -> datetime | None:
    digits = str(value or "").partition("+")[0].partition("-")[0].partition(".")[0]
    try:
        return datetime.strptime(digits[:14].ljust(14, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        return None


def _private(header: Dataset, tag: tuple[int, int], creator: str) -> Any:
    """A private element, if the header says that it is that vendor's."""
    group, element = tag
    owner = str(header[group, element >> 8].value) if (group, element >> 8) in header else ""
    return header[tag].value if tag in header and creator in owner else None
