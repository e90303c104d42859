"""What a grading can say about a submission: a fixed list of statuses, and one sentence for each reason.

A sentence never contains a path, a Python error or anything about the hidden images: teams read it. Everything else is in the
instructor's log.
"""

import re
from typing import Any

from pbl.errors import Sentence

STATUSES = tuple(
    "ok missing corrupt refused incompatible wrong_shape wrong_classes non_finite timeout out_of_memory crashed"
    " grader_error".split()
)

WRITE_AGAIN = "Write the submission again with `python -m pbl submit RUN --team NAME`."
# reason: (status, sentence)
REASONS: dict[str, tuple[str, str]] = {
    "ok": ("ok", "The submission was graded."),
    # missing
    "nothing": ("missing", "Nothing was handed in."),
    "no_submission": ("missing", "Nothing that can be graded was handed in, only {names}. " + WRITE_AGAIN),
    # corrupt
    "damaged": ("corrupt", "{file} is damaged or cut off. " + WRITE_AGAIN),
    "empty_file": ("corrupt", "{file} is empty. " + WRITE_AGAIN),
    "no_json": ("corrupt", "{file} is not JSON. " + WRITE_AGAIN),
    "boxes_form": ("corrupt", 'boxes.json has no {name}, or it is not as expected: a threshold from 0 to 1, and images, in which each id has a list of boxes [left, top, right, bottom, "class", score].'),
    "box_form": ("corrupt", 'boxes.json, image {image}, box {number}: {found} is not a box. Expected: [left, top, right, bottom, "class", score]; the class is its name, the others are numbers.'),
    "key_twice": ("corrupt", "{file} names {name} twice. " + WRITE_AGAIN),
    "changed_file": ("corrupt", "{file} is not the file that submission.json was written for. " + WRITE_AGAIN),
    "no_table": ("corrupt", "predictions.csv cannot be read: {what}. Write it in UTF-8 with the header {header}."),
    "table_header": ("corrupt", "predictions.csv begins with '{found}'. Expected: id,label and, optionally, one column of probabilities for each class."),
    "scores_header": ("corrupt", "predictions.csv begins with '{found}'. The task is anomaly detection; expected: id,score,alarm."),
    "score_number": ("corrupt", "predictions.csv, line {line}: the score '{name}' is not a number. Expected: any number, high for an anomaly, such as 0.25."),
    "alarm_word": ("corrupt", "predictions.csv, line {line}: '{name}' is not an alarm; expected: yes or no, 1 or 0, true or false. Wrong rows: {rows}."),
    "mask_form": ("corrupt", "{name} is not a mask that can be read ({found}). Expected: a grey PNG of 8 bits a pixel, without colours and palette; each pixel has the number of its class."),
    "table_cells": ("corrupt", "predictions.csv, line {line}: {found} {found:cell|cells}, but the header has {expected}."),
    "table_number": ("corrupt", "predictions.csv, line {line}: '{name}' is not a probability. Expected: a number from 0 to 1, such as 0.25."),
    "ids_changed": ("corrupt", "predictions.csv, line {line}: '{name}' is not an id: a spreadsheet has changed ids into numbers, in {rows} {rows:row|rows}. Write the file again, and do not save it with a spreadsheet."),
    # refused
    "two_kinds": ("refused", "There are several kinds of submission: {names}. Hand in one of them."),
    "two_files": ("refused", "There are several files of one kind: {names}. Hand in one of them."),
    "two_submissions": ("refused", "There are several submissions of one team: {names}. Hand in one of them."),
    "program": ("refused", "{name} is {kind}, which can run a program when it is opened. " + WRITE_AGAIN),
    "not_regular": ("refused", "{name} is a link or not an ordinary file, or it could not be extracted from the archive. Hand in the file itself."),
    "too_large": ("refused", "{file} has {size} MB, but the limit is {limit} MB. Does it contain the optimizer of a trained model? `python -m pbl submit RUN --team NAME` leaves it out."),
    "too_many_files": ("refused", "More than {limit} files were handed in. Hand in those that `python -m pbl submit` writes."),
    "encrypted": ("refused", "{file} is encrypted. Hand it in without a password."),
    "member_twice": ("refused", "{file} contains {name} twice. " + WRITE_AGAIN),
    "member_path": ("refused", "{file} contains a path that leads outside it, or a link. " + WRITE_AGAIN),
    "member_kind": ("refused", "{file} contains {name}, which does not belong there. " + WRITE_AGAIN),
    "member_large": ("refused", "{name} in {file} would unpack to {size} MB, but the limit is {limit} MB. Does it contain the optimizer of a trained model? `python -m pbl submit RUN --team NAME` leaves it out."),
    "zip_in_zip": ("refused", "{file} contains another archive, {name}. Hand in the inner one."),
    "json_large": ("refused", "{file} has more than {limit} KB, or is nested too deeply."),
    "hdf5_rule": ("refused", "{file}, {name}: {what}. Keras does not write such a file. " + WRITE_AGAIN),
    "config_class": ("refused", "Layer {layer} is a {name}, which is not part of Keras. Use Keras's layers and operations, or hand in weights of a registered model."),
    "config_code": ("refused", "Layer {layer} is a {name}, which runs code of its own. Use Keras's layers and operations, or hand in weights of a registered model."),
    "config_file": ("refused", "Layer {layer} is a {name}, which reads files. Use other layers of Keras, or hand in weights of a registered model."),
    "config_value": ("refused", "config.json, {name}: {what}. Use built-in layers with ordinary settings, or hand in weights of a registered model."),
    "option_value": ("refused", "submission.json, {name}: {what}."),
    "many_weights": ("refused", "The model has {count} million weights, but the limit is {limit} million."),
    "image_side": ("refused", "The model needs images of {shape}, but a side may have at most {limit} pixels."),
    "builder_unlisted": ("refused", "builder.py is not on the instructor's list. Ask the instructor to read it and to add its hash {sha}."),
    "builder_unisolated": ("refused", "builder.py is a program, and this grader's machine cannot isolate it. Use a registered model."),
    "boxes_many": ("refused", "boxes.json, image {image}: {count} boxes, but the limit is {limit} per image. Hand in those with the highest scores; the best 100 of each class count."),
    "mask_large": ("refused", "{name} has {size} KB, but the limit for a mask of this image is {limit} KB. Save it as a grey PNG, one number a pixel."),
    # incompatible
    "no_field": ("incompatible", "submission.json lacks {name}, or it is not what it should be: {what}. " + WRITE_AGAIN),
    "unknown_model": ("incompatible", "No model is called {name}. Registered: see `python -m pbl models`."),
    "cannot_build": ("incompatible", "{name} cannot be built with these options for images of {shape}. {what}"),
    "weights_missing": ("incompatible", "The weights do not fit {model}: {name} is missing. Were the model's options changed after training?"),
    "weights_extra": ("incompatible", "The weights do not fit {model}: it has no {name}. Were the model's options changed after training?"),
    "weights_shape": ("incompatible", "The weights do not fit {model}: {name} is {found}, expected {expected}. Were the model's options changed after training?"),
    "weights_rejected": ("incompatible", "The weights could not be given to {model}. " + WRITE_AGAIN),
    "keras_version": ("incompatible", "The model was saved by Keras {found}, but the grader has {own}, which cannot build it. Hand in weights: `python -m pbl submit RUN --team NAME`."),
    "config_rejected": ("incompatible", "The model in config.json cannot be built. Load your own file once with keras.models.load_model."),
    "cannot_predict": ("incompatible", "The model was built, but cannot predict images of {shape}."),
    "no_probabilities": ("incompatible", "The outputs are not probabilities: in {rows} rows they are negative or do not sum to 1. End the model with softmax."),
    "table_sum": ("incompatible", "predictions.csv, line {line}: the probabilities sum to {found}, or one is negative; expected: each from 0 to 1, together 1. Wrong rows: {rows}."),
    "scores_needed": ("incompatible", "The task is anomaly detection: hand in scores of the hidden images, not a model: `python -m pbl submit RUN --team NAME --predictions IMAGES`."),
    "masks_needed": ("incompatible", "The task is segmentation: hand in a zip with the masks of the hidden images, ID.png each, not a model or a table: `python -m pbl submit RUN --team NAME --predictions IMAGES`."),
    "boxes_needed": ("incompatible", "The task is detection: hand in boxes.json, the boxes of the hidden images, not a model or a table: `python -m pbl submit RUN --team NAME --predictions IMAGES`."),
    "box_score": ("incompatible", "boxes.json, image {image}, box {number}: the score {score} is not from 0 to 1. Divide the scores by the largest possible score, and the threshold too."),
    "model_needed": ("incompatible", "The task is classification: hand in a model or predictions.csv, not masks or boxes. " + WRITE_AGAIN),
    "alarm_unlike_score": ("incompatible", "predictions.csv, line {line}: there is no alarm, but the score is not below that of line {other}, which has an alarm. Expected: each image with an alarm scores higher than every image without one."),
    "label_unlike_probabilities": ("incompatible", "predictions.csv, line {line}: the label is {label}, but {name} has the largest probability; expected: the label has it. Wrong rows: {rows}."),
    # wrong shape, wrong classes, not finite
    "input_shape": ("wrong_shape", "The model takes {shape}; expected: images with height, width, and 1 or 3 channels."),
    "output_shape": ("wrong_shape", "The model gives {found} for one image; expected: one row of {expected} probabilities."),
    "ids": ("wrong_shape", "{file} has {found} of {expected} ids; {missing} are missing, {unknown} unknown, {twice} twice. The first: {first}."),
    "mask_ids": ("wrong_shape", "The zip has masks of {found} of {expected} hidden images; {missing} are missing, {unknown} unknown, {twice} twice. The first: {first}. Expected: one PNG for each, such as {example}."),
    "box_corners": ("wrong_shape", "boxes.json, image {image}, box {number} ends before it begins, or has no area ({corners}): left, top, right, bottom, with left < right and top < bottom. Are they left, top, width, height? Right is left + width."),
    "box_outside": ("wrong_shape", "boxes.json, image {image}, box {number} ({corners}) extends beyond its image, which has {size} pixels. Give pixels of the hidden image's own size, and clip boxes at its border."),
    "mask_size": ("wrong_shape", "{name} has {found} pixels, but its image has {expected}. Resize masks to the size of their images, with nearest neighbour."),
    "result_length": ("wrong_shape", "The result does not have one row of probabilities for each image."),
    "class_names": ("wrong_classes", "The classes are not those of the task: {missing} missing, {unknown} unknown ({names})."),
    "class_count": ("wrong_classes", "The model has {found} outputs, but the task has {expected} classes."),
    "unknown_label": ("wrong_classes", "predictions.csv, line {line}: '{name}' is not a class of the task; expected: {classes}. Wrong rows: {rows}."),
    "box_class": ("wrong_classes", "boxes.json, image {image}, box {number}: '{name}' is not a class of the task; expected: {classes}."),
    "mask_value": ("wrong_classes", "{name} has the value {value} in {pixels} {pixels:pixel|pixels}, which is not a class. Expected: 0 for the background, up to {last} for the last class."),
    "weights_not_finite": ("non_finite", "{count} weights are NaN or infinite: the training diverged. Lower the learning rate."),
    "predictions_not_finite": ("non_finite", "{rows} rows of predictions contain NaN or infinity."),
    # while it ran
    "slow": ("timeout", "It was stopped after {limit} seconds. Make the model or its images smaller, or ask the instructor for more time (--seconds)."),
    "busy": ("timeout", "It was stopped after {limit} seconds of CPU time. Make the model or its images smaller, or ask the instructor for more time (--seconds)."),
    "memory": ("out_of_memory", "It needed more than {limit} MB of memory. Make the model or its images smaller, or ask the instructor for more memory (--memory)."),
    "signal": ("crashed", "Its process ended by signal {number}."),
    "ended": ("crashed", "Its process ended without a result."),
    "no_result": ("crashed", "Its result does not have the form that the grader's own program writes."),
    "printed": ("crashed", "It printed more than {limit} KB."),
    "wrote": ("crashed", "It wrote more than {limit} MB or {files} files."),
    "threads": ("crashed", "It started more than {limit} threads."),
    "interrupted": ("crashed", "The grader was stopped twice while it worked on this submission. Grade it again with --again."),
    # our own faults
    "result_changed": ("grader_error", "Its cached predictions were changed or lost after they were computed. Grade it again: --again {team}"),
    "grader": ("grader_error", "The grader failed, not the submission. Grade again with the same command."),
}  # fmt: skip

# In place of a sentence whose words come from a team's own program.
UNTOLD = "The error message of the team's own builder.py is not shown here. The instructor finds it in {log}."

# Why the probabilities of fixtures may differ.
CAUSES = {
    "scaled": "They agree again with pixels divided by 255: the model was trained on pixels 0 to 1, but the grader gives 0 to 255. Begin the model with Rescaling(1 / 255).",
    "centred": "They agree again with pixels scaled to -1 to 1: the model was trained on such pixels, but the grader gives 0 to 255. Begin the model with Rescaling(1 / 127.5, offset=-1).",
    "colour_order": "They agree again with red and blue exchanged: the model was trained on images that were read with OpenCV (BGR).",
    "inverted": "They agree again with black and white exchanged.",
    "turned": "They agree again with height and width exchanged.",
    "class_order": "They agree again with another order of the classes: class_names in submission.json is not the order of the model's outputs.",
    "logits": "They agree again after a softmax: end the model with softmax.",
    "number_format": "The classes are the same, but the probabilities differ somewhat: another number format or version.",
    "unknown": "Is the preprocessing inside the model, and are these the weights of that model?",
}


def status_of(reason: str) -> str:
    """Returns the status that a reason belongs to."""
    return REASONS[reason][0]


def say(reason: str, fields: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns a reason's sentence and the values of its fields, so that it can be filled in any language."""
    template = REASONS[reason][1]
    wanted = re.findall(r"{(\w+)}", template)
    return template, {name: fields.get(name, "?") for name in wanted}


def explain(reason: str, fields: dict[str, Any]) -> Sentence:
    """Returns a reason's sentence with its fields filled; see `say`."""
    template, values = say(reason, fields)
    return Sentence(template, **values)
