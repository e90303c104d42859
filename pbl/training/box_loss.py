"""The loss of CenterNet: for the heat, and for sizes and offsets at the boxes' centres (`pbl.models.center_net`)."""

import keras
from keras import ops

from pbl.models.center_net import STRIDE

ALPHA, BETA = 2, 4  # powers in equation 1 of Zhou et al. 2019
OF_SIZES, OF_OFFSETS = 0.1, 1.0  # weights of both losses in equation 4
OVERLAP = 0.3  # lowest IoU of a box with a moved one: from CornerNet's text; its code has .7, with wrong roots (see `find_radius`)
LEAST = 1e-30  # smallest heat: so its logarithm is finite, and its gradient is not cut off
LEAST_LEFT = 1e-7  # smallest value of 1 - heat: float32 has nothing between 1 - 6e-8 and 1


def find_radius(width, height, overlap: float = OVERLAP):
    """Finds how far both corners of a box may move at once, sideways and up or down, so that it still overlaps the box by `overlap`.

    Law and Deng (2018), CornerNet, arXiv:1808.01244, section 3.2. If no corner moves by more than r, the overlap is smallest if both move
    in the same direction, both inward or both outward:

        (w - r)(h - r) = 2t / (1 + t) wh        the same way
        (w - 2r)(h - 2r) = t wh                 inward
        t (w + 2r)(h + 2r) = wh                 outward

    Inward gives the smallest r, for any box and any t: the smaller root of 4r^2 - 2(w + h)r + (1 - t)wh = 0. CornerNet's code, and CenterNet's
    after it, divides roots by 2 in place of 2a, and takes the larger one of two. For a square and t = .7 it gives .27 of the side in place of
    .08, and boxes moved that far overlap by only .21. With the right roots, t = .3 gives .23 of the side: nearly the heat peaks that their networks
    were trained with. On digits on canvases, .3 and .7 cannot be told apart: the difference (one seed each) is within that of seeds.

    Args:
        width, height: Sizes of boxes, both in the same unit, 0 or more.
        overlap: t, an IoU between 0 and 1.

    Returns:
        r, in the same unit.
    """
    total, less = width + height, (1 - overlap) * width * height
    # Not (total - root) / 4: that subtracts two nearly equal numbers.
    return less / ops.maximum(total + ops.sqrt(ops.maximum(total * total - 4 * less, 0.0)), 1e-12)


@keras.saving.register_keras_serializable("pbl")
class CenterLoss(keras.losses.Loss):
    """The loss of a batch of maps, one number for each image (Zhou et al. 2019, equations 1 to 4).

        focal loss of the heat + .1 * |size - true size| + |offset - true offset|

    The true heat of a class is 1 at the cells of its centres, and falls around each as a Gaussian with a sigma of (2r + 1) / 6 cells, with r
    from `find_radius`; where two overlap, the higher value counts. A cell without a centre costs -(1 - true)^4 heat^2 log(1 - heat): less near
    a centre. Sizes and offsets are compared only at the centres. Two boxes with centres in the same cell both count there.

    Each image's loss is divided by the number of its boxes ("the number of keypoints in image I"), or by 1 if it has none. The paper's code
    divides a batch's loss by the batch's number. With the number of each image, the mean does not depend on how images are put into batches,
    and the validation loss is a mean over images.

    Args:
        overlap: As for `find_radius`.
    """

    def __init__(self, overlap: float = OVERLAP, name: str = "center_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.overlap = overlap

    def call(self, y_true, y_pred):
        """Takes boxes `[batch, most, 5]` in pixels and maps `[batch, rows, columns, classes + 4]`; returns `float [batch]`."""
        classes = y_pred.shape[-1] - 4
        heat, at_cells = y_pred[..., :classes], y_pred[..., classes:]
        true_heat, centres, sizes, offsets, is_box = self._draw(y_true, y_pred)
        count = ops.maximum(ops.sum(is_box, axis=1), 1.0)  # [batch]

        of_centres = (1 - heat) ** ALPHA * ops.log(ops.maximum(heat, LEAST))
        of_others = (1 - true_heat) ** BETA * heat**ALPHA * ops.log1p(-ops.minimum(heat, 1 - LEAST_LEFT))
        focal = -ops.sum(ops.where(true_heat == 1, of_centres, of_others), axis=(1, 2, 3))

        here = ops.einsum("bmrc,brcv->bmv", centres, at_cells)  # [batch, most, 4]: the maps at each box's centre
        of_sizes = ops.sum(ops.abs(here[..., :2] - sizes), axis=-1)
        of_offsets = ops.sum(ops.abs(here[..., 2:] - offsets), axis=-1)
        return (focal + ops.sum(is_box * (OF_SIZES * of_sizes + OF_OFFSETS * of_offsets), axis=1)) / count

    def _draw(self, boxes, maps):
        """The target maps: heat `[batch, rows, columns, classes]`; and for each box its cell `[batch, most, rows, columns]`, its size
        and offset in cells `[batch, most, 2]`, and whether it is a box, `[batch, most]`; rows without area are not."""
        rows, columns, classes = maps.shape[1], maps.shape[2], maps.shape[3] - 4
        boxes = ops.cast(boxes, maps.dtype)
        near, far, kind = boxes[..., :2] / STRIDE, boxes[..., 2:4] / STRIDE, boxes[..., 4]
        sizes, middle = far - near, (near + far) / 2  # in cells: to the right, and down
        is_box = ops.cast((kind >= 0) & ops.all(sizes > 0, axis=-1), maps.dtype)
        last = ops.convert_to_tensor([columns - 1, rows - 1], maps.dtype)
        cell = ops.clip(ops.floor(middle), 0.0, last)
        across = ops.arange(columns, dtype=maps.dtype) - cell[..., 0, None]  # [batch, most, columns]
        down = ops.arange(rows, dtype=maps.dtype) - cell[..., 1, None]  # [batch, most, rows]
        sizes = ops.maximum(sizes, 0.0)
        sigma = (2 * find_radius(sizes[..., 0], sizes[..., 1], self.overlap) + 1) / 6
        distance = down[..., :, None] ** 2 + across[..., None, :] ** 2  # [batch, most, rows, columns]
        centres = ops.cast(distance == 0, maps.dtype)
        # Below 1 except at the centre, even for very large boxes.
        around = ops.minimum(ops.exp(-distance / (2 * sigma[..., None, None] ** 2)), 1 - LEAST_LEFT)
        hills = ops.where(distance == 0, 1.0, around) * is_box[..., None, None]
        # One class at a time: all classes at once would need that many times the memory.
        of_classes = [
            ops.max(hills * ops.cast(kind == number, maps.dtype)[..., None, None], axis=1) for number in range(classes)
        ]
        return ops.stack(of_classes, axis=-1), centres, sizes, middle - cell, is_box

    def get_config(self):
        return {**super().get_config(), "overlap": self.overlap}
