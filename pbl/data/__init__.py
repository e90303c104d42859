"""Data sets as `tf.data` pipelines: finite, split by content, raw pixels 0 to 255.

data = pbl.load_data("digits", batch_size=64)
model.fit(data.train, validation_data=data.val)
"""

from pbl import offer

__getattr__, __dir__, __all__ = offer(
    __name__,
    {
        "archives": "npz_arrays zip_archive",
        "augmentation": "augment",
        "box_files": "boxed_folder",
        "box_writing": "write_coco write_voc write_yolo",
        "boxes": "fit_boxes from_boxed_arrays unfit_boxes",
        "cache": "",
        "canvases": "digit_canvases",
        "catalogue": "DATASETS open_source",
        "doctor": "",
        "folders": "class_folders",
        "mask_files": "from_masked_arrays masked_folder",
        "images": "decode_image find_image_files fit_image read_image",
        "pipeline": "DATA_SETTINGS Data load_data order_of_epoch shorten",
        "source": "Source from_arrays",
        "split": "choose_fold hash_image hold_out",
        "store": "Images",
    },
)
