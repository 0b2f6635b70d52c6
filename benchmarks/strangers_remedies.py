"""The change to a program of `stranger_programs/` by a user who types the first thing that a remedy suggests."""

import re

LOUD = ("error", "warning")


def first_remedy(record):
    """The first error, or else the first warning: of preflight, or if it has none, of the doctor at the end."""
    for part in ("preflight", "doctor"):
        found = (record.get(part) or {}).get("final", [])
        for severity in LOUD:
            for finding in found:
                if finding["severity"] == severity and not finding.get("withdrawn"):
                    return finding
    return None


def remedy_typed(code, text, fault):
    """The change by a user who types the first thing that the sentence suggests, as parts of the kit, and its name.

    Numbers are taken from the text. None if the sentence suggests to look at something rather than to type something.
    """
    import keras  # heavy
    import numpy as np  # with it

    text = text or ""
    rate = re.search(r"(?:learning_rate\s*=\s*|learning rate (?:of|to|about|near|around) (?:about )?|rate (?:of|to) )"
                     r"([0-9.]+(?:e-?[0-9]+)?)", text)  # fmt: skip
    number = float(rate.group(1).rstrip(".")) if rate else None
    named = re.search(r"activation\s*=\s*['\"]?(\w+)", text)
    heads = [
        (found.start(), None if found.group(1) in ("linear", "None") else found.group(1))
        for found in re.finditer(
            r"['\"`]?\b(softmax|sigmoid|linear|None|exponential|softplus)\b['\"`]?", text
        )
    ]
    bare = re.search(r"without (?:an )?activation|[Rr]emove the (?:softmax|sigmoid|activation)", text)
    if bare and not (named and named.start() < bare.start()):
        heads = [(bare.start(), None)]
    elif named:
        heads = [(named.start(), None if named.group(1) in ("linear", "None") else named.group(1))]
    if code in (
        "rate_too_high",
        "rate_too_low",
        "update_ratio_high",
        "update_ratio_low",
        "bouncing",
        "diverged",
    ):
        if number is None:
            usual = fault.get("rate", 1e-3)
            if not isinstance(usual, float | int):
                return None
            high = code in ("rate_too_high", "update_ratio_high", "bouncing", "diverged")
            number = usual / 10 if high else usual * 10
        return {"rate": number}, f"rate {number:g}"
    if code == "decayed_too_early":
        if number is None and "WarmupDecay" in text:
            return {"early": None}, "no decay before the end"
        return ({"rate": number, "early": None}, f"rate {number:g}") if number else None
    if code == "regularization_too_strong":
        if "weight_decay" in fault.get("optimizer_options", {}):
            decay = re.search(r"weight_decay\s*=\s*([0-9.]+(?:e-?[0-9]+)?)", text)
            value = float(decay.group(1)) if decay else fault["optimizer_options"]["weight_decay"] / 100
            return {
                "optimizer_options": {**fault["optimizer_options"], "weight_decay": value}
            }, f"decay {value:g}"
        if "regularizer" in fault:
            return {"regularizer": None}, "no penalty"
        if "dropout" in fault:
            share = re.search(r"Dropout\(([0-9.]+)\)|dropout (?:of|to) ([0-9.]+)", text)
            value = float(next(filter(None, share.groups()))) if share else 0.3
            return {"dropout": value}, f"dropout {value:g}"
        return None
    if code == "clipping_too_hard":
        options = {
            key: value
            for key, value in fault.get("optimizer_options", {}).items()
            if not key.startswith("clip")
        }
        return {"optimizer_options": {**options, "clipnorm": 1.0}}, "clipnorm 1"
    if code in (
        "zero_initialization",
        "symmetric_initialization",
        "initial_scale_too_large",
        "initial_scale_too_small",
    ):
        if not {"initializer", "branch"} & set(fault):
            return None
        name = next((name for name in ("he_normal", "glorot_uniform") if name in text), "glorot_uniform")
        return {"initializer": name}, name
    if code in ("dead_relu", "dead_at_start"):
        zeros = 0.0 if isinstance(fault.get("bias"), float | int) else "zeros"
        start = {"bias": zeros} if "bias" in fault and "bias_initializer='zeros'" in text else {}
        start |= {"initializer": "he_normal"} if "initializer" in fault and "he_normal" in text else {}
        if start:
            return start, ", ".join(map(str, start.values()))
        other = re.search(r"leaky_relu|LeakyReLU|elu|gelu|swish|silu", text)
        name = {"LeakyReLU": "leaky_relu"}.get(other.group(0), other.group(0)) if other else None
        return ({"activation": name}, name) if name else None
    if code in ("vanishing", "saturated"):
        other = re.search(r"\b(relu|gelu|elu|selu)\b", text)
        return ({"activation": other.group(1)}, other.group(1)) if other and "activation" in fault else None
    if code in ("unscaled_inputs", "constant_inputs") and ("inputs" in fault or fault.get("raw")):
        usual = fault.get("inputs", lambda x: x)
        memory = {}

        def scaled(x):
            x = np.asarray(usual(x), "float32")
            flat = x.reshape(-1, x.shape[-1])
            memory.setdefault("mean", flat.mean(0))
            memory.setdefault("spread", flat.std(0) + 1e-6)
            return ((x - memory["mean"]) / memory["spread"]).astype("float32")

        return {"inputs": scaled}, "inputs standardized"
    if code == "frozen" and "weights" in fault:

        def thaw(model):
            for layer in model.layers:
                layer.trainable = True

        return {"weights": thaw}, "trainable = True"
    if code == "missing_shuffle":
        if "shuffle" in fault:
            return {"shuffle": True}, "shuffle"
        return {"options": {**fault.get("options", {}), "shuffle": True}}, "shuffle=True"
    if code == "batch_norm_statistics" and "momentum" in fault:
        value = re.search(r"momentum\s*=\s*([0-9.]+[0-9])", text)
        value = float(value.group(1)) if value else 0.9
        return {"momentum": value}, f"momentum {value:g}"
    if code == "batch_too_small":
        return {"batch": 32}, "batch of 32"
    if "from_logits=True" in text and code in ("logits_as_probabilities", "softmax_twice") and not heads:
        loss = fault.get("loss")
        return ({"loss": keras.losses.get(loss)}, "from_logits") if loss else None
    change = {}
    part = next(iter(sorted({"head", "lm_head", "amount_head", "kind_head"} & set(fault))), None)
    if heads and part:
        change[part] = heads[0][1]
    loss = re.search(r"loss\s*=\s*['\"](\w+)['\"]", text)
    if loss and {"head", "loss"} & set(fault):
        change["loss"] = loss.group(1)
    if change:
        return change, ", ".join(f"{part} {value}" for part, value in change.items())
    if code == "labels_out_of_range" and "targets" in fault:
        whole = re.search(r"subtract|0 and 1|from 0|integers|whole|divide", text)
        return ({"targets": lambda y: y}, f"labels repaired ({whole.group(0)})") if whole else None
    if code in ("unreachable_targets", "unscaled_targets") and "units" in fault:
        return {"units": lambda y: y}, "targets standardized"
    return None
