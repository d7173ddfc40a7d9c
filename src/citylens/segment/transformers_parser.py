"""Scene parsers of the transformers library: any checkpoint for semantic segmentation (SegFormer, UperNet, Mask2Former, ...)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from citylens.errors import InputError
from citylens.io.texts import label
from citylens.nets import checkpoints, networks
from citylens.nets.label_maps import OBJECTS
from citylens.segment.object_names import short_names
from citylens.segment.parser import Parser, upsampled
from citylens.settings.schema import Segment

UNIVERSAL = ("mask2former", "oneformer", "maskformer")  # model types that predict masks of segments


def open_parser(plan: Segment) -> Parser:
    """Open the checkpoint that `segment.transformers` names: a folder in `segment.path`, or a name on the hub.

    Its weights have to be in the safetensors format, and no code of the checkpoint runs.

    Raises:
        InputError: the library is not installed, it cannot open the checkpoint, weights are missing or not finite, or the names
            of the classes do not fit.
    """
    own = Path(plan.path) / plan.transformers.checkpoint
    checkpoint, device = str(own) if own.is_dir() else plan.transformers.checkpoint, networks.device()
    processor, model = _loaded(checkpoint)
    model.eval().to(device)
    where = f"segment.transformers.checkpoint: {checkpoint}"
    checkpoints.check_finite(dict(model.named_parameters()), where)
    classes = {int(number): label(str(name), where) for number, name in model.config.id2label.items()}
    if {*classes} != {*range(len(classes))}:
        raise InputError(f"{where}: id2label names the classes {[*classes][:5]}, ...; allowed: 0, 1, 2 and so on")
    if len(classes) > OBJECTS:
        raise InputError(
            f"segment.transformers: {plan.transformers.checkpoint}: {len(classes)} classes; allowed: {OBJECTS}"
        )
    names = short_names({number + 1: name.replace(",", ";") for number, name in classes.items()})

    def parse(images: list[NDArray[np.uint8]]) -> torch.Tensor:
        task = {"task_inputs": ["semantic"] * len(images)} if model.config.model_type == "oneformer" else {}
        inputs = processor(images=images, return_tensors="pt", **task).to(device)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            outputs = model(**inputs)
        return _probabilities(outputs, images[0].shape[:2])

    return Parser(np.arange(1, len(classes) + 1, dtype=np.uint8), names, parse)


def _loaded(checkpoint: str) -> tuple[Any, Any]:
    """Return the checkpoint's processor of images and its network."""
    try:
        import transformers
    except ImportError:
        raise InputError(
            "segment.segmenter: transformers: the library is not installed; `pip install 'citylens[transformers]'`"
        ) from None
    transformers.utils.logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
        kind = "Universal" if config.model_type in UNIVERSAL else "Semantic"
        network = getattr(transformers, f"AutoModelFor{kind}Segmentation")
        processor = transformers.AutoProcessor.from_pretrained(checkpoint, trust_remote_code=False)
        options = {"trust_remote_code": False, "use_safetensors": True, "output_loading_info": True}
        model, about = network.from_pretrained(checkpoint, **options)
        lacking = sorted({*about["missing_keys"]} & {name for name, _ in model.named_parameters()})
        if lacking:  # The library would make up random ones.
            raise ValueError(f"weights of a segmentation network that it lacks: {', '.join(lacking[:3])}")
        return processor, model.float()
    except Exception as error:  # The library raises exceptions of many kinds for a checkpoint that does not fit.
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"segment.transformers.checkpoint: {checkpoint}: {first}") from None


def _probabilities(outputs: Any, size: tuple[int, ...]) -> torch.Tensor:
    """Return (N, classes, *size) class probabilities from a network's logits, or from its masks of segments.

    Source, for masks: Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation" (2022),
    section 3.1: the product of each query's class probabilities and its mask, summed over the queries.
    """
    if hasattr(outputs, "logits"):
        return torch.softmax(upsampled(outputs.logits.float(), size), dim=1)
    classes = outputs.class_queries_logits.float().softmax(dim=-1)[..., :-1]
    masks = upsampled(outputs.masks_queries_logits.float(), size).sigmoid()
    sums = torch.einsum("nqc,nqhw->nchw", classes, masks)
    return sums / sums.sum(dim=1, keepdim=True).clamp_min(1e-12)
