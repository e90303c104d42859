"""Detection's figures and its network, in Japanese."""

DETECTION = {
    "model_options.depth={depth}: center_net halves the images at least twice.": "model_options.depth={depth}：center_net は画像を2回以上半分にします。2以上を指定してください。",
    # Figures
    "F1 of boxes": "検出枠のF値（F1）",
    "F1 {value:.2f}": "F値 {value:.2f}",
    "average precision": "平均適合率（AP）",
    "found falsely": "誤検出",
    "found rightly": "正しく検出",
    "images with the right number of each class": "どのクラスの個数も正しい画像の割合",
    "precision: right of all found boxes": "適合率：検出した枠のうち正しい割合",
    "recall: found of all true boxes": "再現率：正解の枠のうち検出した割合",
    "score from which a box is shown": "そのスコア以上の枠を表示する",
    "{of}: boxes": "{of}：検出枠",
    "{of}: from which score a box is shown": "{of}：どのスコアから枠を表示するか",
    "{of}: precision and recall of boxes": "{of}：検出枠の適合率と再現率",
}
