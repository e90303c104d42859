"""What the JSON files of a run contain: checked once, when they are read. They may contain more; what is missing is not asked for.

A run may come from a stranger, or from another version of this package.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=0, lt=10**12)]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, lt=1e15)]
Name = Annotated[str, Field(max_length=4000)]

_AS_IT_IS = ConfigDict(strict=True, extra="allow")


class _Machine(BaseModel):
    model_config = _AS_IT_IS
    processor: Name = ""


class Environment(BaseModel):
    """`environment.json`."""

    model_config = _AS_IT_IS
    status: Name
    started: Name | None = None
    reason: str | None = None
    images: Name | None = None
    data: Name | None = None
    devices: list[Name] | None = None
    versions: dict[Name, Name] | None = None
    machine: _Machine | None = None
    builder_options: dict[Name, Any] | None = None
    trainable_weights: Count | None = None
    precision: Name | None = None
    epochs: Count | None = None
    best_epoch: Count | None = None
    fine_tune_from_epoch: Count | None = None
    diverged: bool | None = None
    diverged_at: str | None = None
    seconds: dict[Name, Amount] | None = None
    resumed: list[dict[str, Any]] | None = None
    limits: dict[Name, Amount] | None = None
    trial_images: Count | None = None


class Split(BaseModel):
    """`split.json`."""

    model_config = _AS_IT_IS
    class_names: list[Name] = Field(min_length=1, max_length=65_535)
    input_shape: list[Annotated[int, Field(ge=1, le=2**20)]] = Field(min_length=3, max_length=3)
    fit: Name
    hashes: dict[Name, list[Name]]
    images: dict[Name, Count] | None = None

    @model_validator(mode="after")
    def _check_size(self) -> "Split":
        if math.prod(self.input_shape) > 2**30:
            raise ValueError("input_shape")
        return self


class Metrics(BaseModel):
    """`metrics_val.json` and `metrics_test.json`, of any task."""

    model_config = _AS_IT_IS
    accuracy: Share | None = None
    images: Annotated[int, Field(ge=1, lt=10**9)] | None = None
    log_loss: Amount | None = None
    macro: dict[Name, Share | None] | None = None
    calibration: dict[Name, Any] | None = None
    class_names: list[Name] | None = None
    confusion_matrix: list[list[Count]] | None = None
    metrics: dict[Name, float | None] | None = None
    headline: Name | None = None

    @model_validator(mode="after")
    def _check_sum(self) -> "Metrics":
        """The accuracy must be that of the confusion matrix: this finds a flipped bit in either."""
        if self.confusion_matrix and self.accuracy is not None:
            n, correct = sum(map(sum, self.confusion_matrix)), 0
            for at, row in enumerate(self.confusion_matrix):
                if len(row) != len(self.confusion_matrix):
                    raise ValueError("confusion_matrix")
                correct += row[at]
            if n != self.images or abs(correct - self.accuracy * n) > 1e-6 * n:
                raise ValueError("accuracy and confusion_matrix")
        return self


class _Judged(BaseModel):
    model_config = _AS_IT_IS
    value: Share
    interval: list[Share] = Field(min_length=2, max_length=2)


class _Accuracy(BaseModel):
    model_config = _AS_IT_IS
    after: _Judged


class _Latency(BaseModel):
    model_config = _AS_IT_IS
    median: Amount


class ExportedModel(BaseModel):
    """The JSON file next to an exported model."""

    model_config = _AS_IT_IS
    file: Name
    format: Name
    run: Name
    made: Name
    bytes: Count
    latency_ms: _Latency
    largest_difference: Amount
    changed_classes: Count | None = None
    compared_classes: Count | None = None
    accuracy: _Accuracy | None = None
    paper: Name | None = None
    started_from: Name | None = None
    licence_of_weights: Name | None = None
    versions: dict[Name, Name] | None = None


class _Kind(BaseModel):
    model_config = _AS_IT_IS
    name: Name
    images: Count
    roc_auc: Share | None


class _Gap(BaseModel):
    model_config = _AS_IT_IS
    value: float
    low: float | None
    high: float | None


class _Difference(_Gap):
    baseline: Name


class _Promise(BaseModel):
    model_config = _AS_IT_IS
    threshold: float | None
    asked: Share
    low: Share
    high: Share
    images: Count


class _Reconstruction(BaseModel):
    model_config = _AS_IT_IS
    train: Amount
    normal: Amount | None = None
    kept_normal: float | None = None
    kept_anomalies: float | None = None
    p_above_train: Share | None = None
    contrast_normal: Amount | None = None
    follows_contrast: float = 0.0
    contrast: dict[Name, Amount]


class _Leak(BaseModel):
    model_config = _AS_IT_IS
    items: Count


class _Contamination(BaseModel):
    model_config = _AS_IT_IS
    share: Share
    low: Share
    high: Share
    suspects: Count
    names: list[Name]


class _Areas(BaseModel):
    model_config = _AS_IT_IS
    roc_auc: Share | None


class AnomalyMetrics(BaseModel):
    """`metrics_val.json` of anomaly detection: the part that its diagnosis reads."""

    model_config = _AS_IT_IS
    images: Count
    normal_images: Count
    metrics: _Areas
    intervals: dict[Name, list[float]]
    kinds: list[_Kind]
    difference: _Difference | None
    promise: _Promise | None
    reconstruction: _Reconstruction
    leak: _Leak | None
    contamination: _Contamination | None = None  # None in runs made before it was measured


class _Samples(BaseModel):
    model_config = _AS_IT_IS
    samples: Count
    looked_at: Annotated[int, Field(ge=1, lt=10**9)]
    kid: float
    error: Amount
    precision: Share
    recall: Share
    unsure: Share
    variety: Amount
    nearest: Amount
    copies: Share
    copies_of_real: Share
    counts: list[Count]
    real_counts: list[Count]
    shares: list[Share] | None = None  # None in runs made before they were estimated
    shares_apart: Share | None = None

    @model_validator(mode="after")
    def _check_lengths(self) -> "_Samples":
        if (self.shares is None) != (self.shares_apart is None) or len(self.shares or self.counts) != len(self.counts):
            raise ValueError("shares")
        if len(self.counts) != len(self.real_counts) or not sum(self.real_counts):
            raise ValueError("counts")
        return self


class _Floor(BaseModel):
    model_config = _AS_IT_IS
    kid: float
    kid_sd: Amount
    precision: Share
    recall: Share
    unsure: Share
    right: Share | None
    shares: list[Share] | None = None
    shares_apart: Share | None = None


class GenerationMetrics(BaseModel):
    """`metrics_val.json` of generation: the part that its diagnosis reads."""

    model_config = _AS_IT_IS
    samples: _Samples
    floor: _Floor
    baselines: Annotated[dict[Name, float], Field(min_length=1)]
    real_images: Count
    classes: list[Name]

    @model_validator(mode="after")
    def _check_lengths(self) -> "GenerationMetrics":
        if self.classes and len(self.classes) != len(self.samples.counts):
            raise ValueError("classes")
        if len(self.samples.shares or ()) != len(self.floor.shares or ()):
            raise ValueError("shares")
        return self


class _Average(BaseModel):
    model_config = _AS_IT_IS
    value: Share | None
    low: Share | None
    high: Share | None
    count: Count


class _MaskClass(BaseModel):
    model_config = _AS_IT_IS
    name: Name
    images: Count
    dice: _Average
    missed_images: Count
    empty_images: Count
    false_images: Count
    found_regions: Count

    @model_validator(mode="after")
    def _check_counts(self) -> "_MaskClass":
        if self.false_images > self.empty_images:
            raise ValueError("false_images")
        return self


class _Masks(BaseModel):
    model_config = _AS_IT_IS
    pixel_accuracy: Share
    all_background: Share
    dice: Share | None
    classes: list[_MaskClass]


class _Marked(BaseModel):
    model_config = _AS_IT_IS
    images: Count
    marked_images: Count


class _Doubtful(BaseModel):
    model_config = _AS_IT_IS
    images: Count
    found: Count
    share: Share
    low: Share
    high: Share
    agreeing: Share
    names: list[Name]


class _MaskTraining(BaseModel):
    model_config = _AS_IT_IS
    images: Count
    dice: Share | None
    gap: _Gap | None
    doubtful: _Doubtful


class _MaskShift(BaseModel):
    model_config = _AS_IT_IS
    auc: Share
    statistic: Name


class SegmentationMetrics(BaseModel):
    """`metrics_val.json` of segmentation: the part that its diagnosis reads."""

    model_config = _AS_IT_IS
    images: Count
    masks: _Masks
    difference: _Difference | None
    marked: _Marked
    training: _MaskTraining | None
    leak: _Leak | None
    shift: _MaskShift | None


class _BoxClass(BaseModel):
    model_config = _AS_IT_IS
    name: Name
    boxes: Count
    images: Count
    ap50: Share | None
    ap: Share | None


class _Shown(BaseModel):
    model_config = _AS_IT_IS
    threshold: Share
    precision: Share | None
    recall: Share | None
    image_f1: Share
    right_count: Share
    right_count_interval: list[Share] = Field(min_length=2, max_length=2)
    count_error: float = Field(ge=0)
    empty: Count
    empty_with_boxes: Count

    @model_validator(mode="after")
    def _check_counts(self) -> "_Shown":
        if self.empty_with_boxes > self.empty:
            raise ValueError("empty_with_boxes")
        return self


class _FoundBoxes(BaseModel):
    model_config = _AS_IT_IS
    map50: Share | None
    map: Share | None
    classes: list[_BoxClass]
    at_threshold: _Shown | None


class _BoxTraining(BaseModel):
    model_config = _AS_IT_IS
    images: Count
    map50: Share | None
    gap: _Gap | None


class DetectionMetrics(BaseModel):
    """`metrics_val.json` of detection: the part that its diagnosis reads."""

    model_config = _AS_IT_IS
    images: Count
    boxes: _FoundBoxes
    difference: _Difference | None
    training: _BoxTraining | None
    leak: _Leak | None


class _Arm(BaseModel):
    model_config = _AS_IT_IS
    name: Literal["encoder", "untrained", "pixels"]
    way: Literal["probe", "nearest"]
    accuracy: Share


class _Beside(BaseModel):
    model_config = _AS_IT_IS
    name: Literal["untrained", "pixels"]
    way: Literal["probe", "nearest"]
    value: float
    low: float
    high: float
    p: Share


class _Level(BaseModel):
    model_config = _AS_IT_IS
    labels: Count
    arms: list[_Arm]
    differences: list[_Beside]


class _PairRates(BaseModel):
    model_config = _AS_IT_IS
    eer: Share


class _Pairs(BaseModel):
    model_config = _AS_IT_IS
    classes: Count
    metrics: _PairRates


class _PairControl(BaseModel):
    model_config = _AS_IT_IS
    name: Literal["untrained", "pixels"]
    eer: Share
    low: float | None
    high: float | None


class _Contrast(BaseModel):
    model_config = _AS_IT_IS
    supervised: bool
    identities: bool
    temperature: float | None
    spread: Share
    levels: list[_Level]
    pairs: _Pairs | None
    pair_controls: list[_PairControl]


class ContrastMetrics(BaseModel):
    """`metrics_val.json` of contrastive learning: the part that its diagnosis reads."""

    model_config = _AS_IT_IS
    images: Count
    contrast: _Contrast


class HeadlineMetrics(BaseModel):
    """`metrics_<split>.json` of a task other than classification: the quantity that it is judged by."""

    model_config = _AS_IT_IS
    headline: Name
    better: Literal["higher", "lower"] = "higher"
    metrics: dict[Name, float | None]
    intervals: dict[Name, Annotated[list[float], Field(min_length=2, max_length=2)]] = {}


class Cost(BaseModel):
    """`cost.json`."""

    model_config = _AS_IT_IS
    macs: Count | None = None
    latency_ms: Amount | None = None
    images_per_second: Amount | None = None
    throughput_batch: Count | None = None
    peak_memory_mib: Amount | None = None
    file_mib: Amount | None = None
    cost_conditions: Name | None = None


class Lock(BaseModel):
    """`lock.json`."""

    model_config = ConfigDict(extra="allow")  # not strict: another version may have written other kinds of numbers
    host: Name
    pid: Annotated[int, Field(ge=0, lt=2**31)]
    time: float
    token: Name


class _Epoch(BaseModel):
    model_config = _AS_IT_IS
    epoch: Count
    penalty: float
    loss: float = 0.0


class _Look(BaseModel):
    model_config = _AS_IT_IS
    epoch: Count
    kernels: list[Name]
    rectified: list[Name]
    gradient_norms: list[float]
    weight_norms: list[float]
    update_ratios: list[float]
    dead: list[float]
    loss_in_training: float = math.nan
    loss_stored: float = math.nan
    loss_anew: float = math.nan

    @model_validator(mode="after")
    def _check_lengths(self) -> "_Look":
        of_kernels = (self.gradient_norms, self.weight_norms, self.update_ratios)
        if any(len(values) not in (0, len(self.kernels)) for values in of_kernels):
            raise ValueError("kernels")
        if len(self.dead) != len(self.rectified):
            raise ValueError("rectified")
        return self


class _About(BaseModel):
    model_config = _AS_IT_IS
    num_classes: Annotated[int, Field(ge=1, le=65_535)]
    train_counts: list[Count]
    val_counts: list[Count]
    val_items: list[Name] = []

    @model_validator(mode="after")
    def _check_lengths(self) -> "_About":
        if not len(self.train_counts) == len(self.val_counts) == self.num_classes or not sum(self.train_counts):
            raise ValueError("train_counts")
        return self


class SignalsText(BaseModel):
    """The text in `signals.npz` in addition to its arrays; NaN is a number there."""

    model_config = _AS_IT_IS
    about: _About
    epochs: list[_Epoch]
    network: list[_Look]
    end: dict[Name, Count | list[list[Count]]] = {}  # for pairs of classes, triples of counts

    @model_validator(mode="after")
    def _check_order(self) -> "SignalsText":
        numbers = [row.epoch for row in self.epochs]
        if numbers != sorted(set(numbers)):
            raise ValueError("epochs")
        return self
