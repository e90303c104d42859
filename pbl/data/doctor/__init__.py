"""The data doctor: what is wrong with a data set, found before the first training.

Every check is a function of plain arrays that returns findings; `examine` runs them all. Nothing is changed or deleted:
`write_leave_out` only writes the names of images that can be left out.

The severity of a finding: "stop", a result on these data would be wrong or no training can begin; "act", look at it before you
train; "note", good to know. Each threshold is in the file of its check, with the data that it was measured on
(experiments/benchmarks/planted_faults.py plants the faults and writes the table).
"""

from pbl import offer

__getattr__, __dir__, __all__ = offer(
    __name__,
    {
        "classifiers": "NEIGHBOURS describe_images",
        "altered_copies": "find_altered_copies",
        "contamination": "Contamination measure_contamination",
        "boxes": "count_objects find_absent_objects find_copies_with_other_boxes find_empty_images find_faulty_boxes find_seldom_objects"
        " find_shared_centres find_tiny_boxes find_whole_image_boxes",
        "copies": "find_copies_across find_copies_with_other_labels find_copies_within",
        "counts": "FEWEST_IN_CLASS find_absent_classes find_broken find_imbalance find_small_classes find_small_validation",
        "examination": "CHECKS CLOSE_CHECKS examine examine_closely",
        "finding": "SEVERITIES Finding Part Severity",
        "labels": "find_labels_harder_than_validation find_labels_unlike_neighbours find_labels_unlike_predictions"
        " bound_wrong_labels",
        "masks": "count_marked find_absent_marks find_class_shares find_copies_with_other_masks find_empty_masks find_inverted_masks"
        " find_lost_marks find_masks_like_images find_seldom_marks",
        "reference": "find_reference_accuracy",
        "report": "find_leave_out write_leave_out write_report",
        "shift": "find_shift measure_images",
        "strangers": "find_strangers measure_surface",
        "sizes": "find_constant_images find_dark_images find_long_images find_mixed_modes find_small_images",
    },
)
