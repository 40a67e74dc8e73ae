"""Why a key of another tool is not carried over, in one sentence each: what that means for the run here."""

from __future__ import annotations

from lora_backend.i18n import N_

LEARNS = N_("It changes what is learned and has no equivalent here: expect a different result.")
ADAPTER = N_("PEFT supports it, but a Flightdeck config does not: the adapter will differ.")
METHOD = N_("Only supervised training of LoRA adapters is supported here; this asks for another method.")
FULL = N_(
    "It trains all the model's weights; here a LoRA adapter is trained. Check `r` and `learning_rate`: LoRA usually needs about ten times the rate."
)
SPEED = N_("It changes speed and memory, not what is learned.")
LOADER = N_("It controls how rows are loaded; here the trainer does that in its own process.")
DISTRIBUTED = N_("How GPUs share the work is chosen by `strategy` and `num_processes`; this has no counterpart.")
PACKING = N_(
    "Here `batching: packed` fills lines of `max_length` tokens with whole rows that do not see each other; no other kind of packing is supported."
)
DATA = N_("A data set here is a file or folder on this machine, or one in the hub's cache; name it as `dataset`.")
ROWS = N_("All rows of the file are used for training here; shorten the file to use fewer.")
TEMPLATE = N_("Chats are rendered with the tokenizer's own template here.")
TOKENIZER = N_("The tokenizer is used here as it comes with the model.")
MODEL = N_("The model is loaded as its own files say.")
REMOTE_CODE = N_("Code that comes with a model is not run here.")
STORED = N_("The base model is loaded in the training precision here.")
QUANTIZED = N_("Here `quantization` covers linear layers, in nf4 or int8; no other kind is supported.")
EVALUATION = N_("Evaluation here means the loss on the rows that are held out.")
SAVING = N_("Complete checkpoints are written every `save_steps` here, so that a run can resume from them.")
UNMERGED = N_("The adapter is saved on its own here and not merged into the model.")
LOGGING = N_("Runs log to their own folders here, so it has no effect.")
TRACKING = N_("Trackers are set with `report_to` here and show a run by its id; its folder always has the curves.")
HUB = N_("Nothing is uploaded here; the adapter stays on this machine.")
SECRET = N_("Secrets do not belong in a config, so it is neither carried over nor shown.")
RESUME = N_("A run is resumed by its id here, not by its config.")
FRESH = N_("Training starts from a fresh adapter here.")
GENERATION = N_(
    "It is about answers, not training. To have the base model and the adapter answer questions at the end of a run, set `questions`."
)
PICTURES = N_("Only training on text is supported here.")
RECORD = N_("It records how the file was made; training does not read it.")
ONLY_ANSWERS = N_(
    "Only answers are trained on here by default. Set `train_on: everything` to train on prompts as well."
)
NO_CUT = N_("Rows are always truncated here, at `max_length` tokens; set it to the length of your longest row.")

NOT_NEEDED = frozenset({SPEED, LOADER, SAVING, LOGGING, TRACKING, RECORD})
"""Reasons of keys that may go without a word: what is learned stays the same."""
