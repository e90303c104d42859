"""What a person reads, in Japanese: the English sentence is the key, the same fields stand in both.

Here: the diagnosis, the log and the team's report, and `say`, which all use; in the other files what their names tell.

正解率 is accuracy and 適合率 precision; 精度, which is used for both, is not.
"""

import functools
import os
import sys
from typing import Any

from pbl.storage.escapes import for_screen

FINDINGS = {
    "diverged": "発散",
    "batch_norm_mismatch": "バッチ正規化の統計量の不一致",
    "class_imbalance": "クラス不均衡",
    "dead_units": "死んだユニット（常に0）",
    "vanishing_gradients": "勾配消失",
    "leak_suspected": "データリーク（漏洩）の疑い",
    "shift_suspected": "分布のずれ（分布シフト）の疑い",
    "label_noise_suspected": "ラベル誤りの疑い",
    "too_noisy_to_say": "判定保留（検証画像が足りない）",
    "underfitting": "学習不足",
    "overfitting": "過学習",
    "representation_collapse": "表現の崩壊",
    "learned_nothing": "何も学習していない",
    "no_gain": "簡単な方法を上回らない",
    "healthy": "問題なし",
    "unknown": "原因不明",
    "false_regions": "何もない画像での誤検出",
    "false_boxes": "物体のない画像での誤検出",
    "wrong_count": "個数の誤り",
    "contaminated_training": "正常画像への異常の混入",
    "no_threshold": "しきい値を決められない",
    "reconstructs_nothing": "再構成できていない",
    "reconstructs_everything": "何でも再構成してしまう",
    "overfits_normal_images": "正常画像への過学習",
    "no_better_than_baseline": "簡単な方法を上回らない",
    "blind_to_kinds": "ほとんど見分けられない異常がある",
    "threshold_uncertain": "しきい値が不確か",
    "no_anomalies": "異常画像がない",
    "memorised": "訓練画像の丸暗記",
    "mode_collapse": "モード崩壊（多様性の喪失）",
    "discriminator_wins": "識別器の一方的な勝ち",
    "generator_wins": "識別器が見破れていない",
    "still_learning": "まだ学習の途中",
    "unlike_real_images": "本物に似ていない",
    "scaled_twice": "画素の二重の正規化",
    "greys_lost": "階調の消失",
    "other_arrays": "OverfittingMonitor に渡した配列の違い",
    "blank_images": "何も写っていない画像",
    "class_absent": "訓練にないクラス",
    "label_order_suspected": "クラス番号の食い違いの疑い",
    "class_shares_differ": "訓練と検証のクラスの割合の違い",
    "class_never_found": "ほとんど正解しないクラス",
    "double_softmax": "二重のソフトマックス",
}
CAUSES = {
    "low_rate": "学習率が低すぎる",
    "train_longer": "まだ学習の途中",
    "over_regularised": "正則化が強すぎる",
    "capacity": "モデルの表現力が足りない",
    "gap": "訓練と検証の差",
    "stop_earlier": "学習のしすぎ",
    "over_confident": "正解率ははっきりとは下がらず、確信度だけが過大",
    "or_small_gap": "または小さな差",
}
SENTENCES = {
    # Findings
    "A simple classifier tells validation images from training images (area under the ROC curve {auc:.2f}; 0.50 if they were alike); they differ most in {statistic}. The accuracy on them is {gap_points:.1f} points lower. Look whether both were made and read in the same way: 0 to 255, colour order, size.": "簡単な分類器で検証画像と訓練画像を見分けられます（ROC曲線の下の面積 {auc:.2f}、差がなければ 0.50）。最も違うのは{statistic}です。検証画像での正解率は {gap_points:.1f} ポイント低くなっています。両方が同じ方法で作られ、読み込まれているか（0〜255、色の順序、大きさ）を確かめてください。",
    "After epoch {epoch} the loss was {loss:.2f} on the training images that the network learned from and {val_loss:.2f} on validation images that it had not seen: the wrong way round, and too large a difference for chance. Probably some labels of training images are wrong, or validation is easier. Look at the labels of training images.": "エポック {epoch} のあと、学習に使った訓練画像の損失が {loss:.2f}、見たことのない検証画像の損失が {val_loss:.2f} でした。大小が逆で、偶然とは言えない差があります。訓練画像のラベルの一部が誤っているか、検証画像のほうがやさしいと考えられます。訓練画像のラベルを確かめてください。",
    "All training images are of one class: there is nothing to learn. Look at the labels, or at the folders they come from.": "訓練画像がすべて同じクラスなので、学習することがありません。ラベルか、クラスのフォルダを確かめてください。",
    "As far as simple models can tell, at least {low:.0%} of the labels of {looked_at} training images that were looked at are wrong. If validation was labelled in the same way, it has as many: then the accuracy on correct labels is another one.": "簡単なモデルで調べた限り、訓練画像 {looked_at} 枚のラベルのうち少なくとも {low:.0%} が誤っています。検証画像にも同じようにラベルが付けられたのなら、誤りも同じくらいあり、正しいラベルでの正解率は今の値とは異なります。",
    "Before this training the loss of training images was {lowest:.3g}, and in the end {loss:.3g}; that of guessing is {guessing:.3g}. Lower the learning rate.": "訓練画像の損失は、今回の学習の前は {lowest:.3g} だったのに、最後は {loss:.3g} でした（当てずっぽうなら {guessing:.3g}）。学習率を下げてください。",
    "Before training the gradient of the first layer was {ratio:.1e} times that of the last, and next to nothing was learned since. Fewer layers, batch normalisation or skip connections help.": "学習前の最初の層の勾配は最後の層の {ratio:.1e} 倍しかなく、その後もほとんど何も学習していません。層を減らすか、バッチ正規化やスキップ接続を使うと改善します。",
    "Before training the largest gradient of a layer was {norm:.1e}, and next to nothing was learned since, as where all images look alike to the last layer. Fewer layers, batch normalisation or skip connections help.": "学習前の勾配は最も大きい層でも {norm:.1e} で、その後もほとんど何も学習していません。最後の層にはどの画像も同じように見えているときに起こります。層を減らすか、バッチ正規化やスキップ接続を使うと改善します。",
    "Before training the loss was {loss:.3g}, and that of guessing is {guessing:.2f}. Usually the pixels are not scaled then, or the initial weights are too large.": "学習前の損失が {loss:.3g} でした（当てずっぽうなら {guessing:.2f}）。多くの場合、画素の値が正規化されていないか、重みの初期値が大きすぎます。",
    "Before training the loss was {loss:.3g}, and that of guessing is {guessing:.2f}: pixels go up to {largest:g}, and no layer of the model scales them. Put keras.layers.Rescaling(1 / {range:g}) first.": "学習前の損失が {loss:.3g} でした（当てずっぽうなら {guessing:.2f}）。画素の値は最大 {largest:g} で、モデルに正規化する層がありません。最初の層に keras.layers.Rescaling(1 / {range:g}) を置いてください。",
    "Before training {share:.1%} of the units of '{layer}' were 0 for all images that were looked at, and nothing was learned since. Look at the initial weights of that layer, and at the range of the pixels.": "学習前から、層 '{layer}' のユニットの {share:.1%} が、調べたすべての画像に対して 0 で、その後も何も学習していません。この層の重みの初期値と、画素の値の範囲を確かめてください。",
    "Class {most} (numbered from 0) is {train_share:.1%} of the training and {val_share:.1%} of the validation images. The accuracy on validation is {val_accuracy:.1%}; with training's shares of the classes it would be about {alike:.1%}, and it is {accuracy:.1%} on training images. Split again so that each class has the same share on both sides (scikit-learn: train_test_split(images, labels, stratify=labels)), or say which shares are the true ones.": "クラス {most}（0から数えた番号）は訓練画像の {train_share:.1%}、検証画像の {val_share:.1%} です。検証の正解率は {val_accuracy:.1%} ですが、クラスの割合が訓練と同じなら約 {alike:.1%} になります（訓練の正解率は {accuracy:.1%}）。クラスの割合をそろえて分け直すか（scikit-learn なら train_test_split(images, labels, stratify=labels)）、どちらの割合が本来のものかを明記してください。",
    "In the last {epochs} epoch(s) the loss of training images still fell, from {before:.4g} to {loss:.4g}, and that of validation images fell too: the network still learns.": "最後の {epochs} エポックで、訓練画像の損失がまだ {before:.4g} から {loss:.4g} に下がり、検証画像の損失も下がっています。まだ学習の途中です。",
    "In the last {epochs} epoch(s) the loss of training images still fell, from {before:.4g} to {loss:.4g}: the network still learns.": "最後の {epochs} エポックで、訓練画像の損失がまだ {before:.4g} から {loss:.4g} に下がっています。まだ学習の途中です。",
    "In the second half the loss of training images went up and down: its rises sum up to {rises:.2f}. At its lowest it was {lowest:.2f}, and that of guessing is {guessing:.2f}. Lower the learning rate.": "後半で訓練画像の損失が上下をくり返し、上がった分の合計は {rises:.2f} です。最も低いときの損失は {lowest:.2f} でした（当てずっぽうなら {guessing:.2f}）。学習率を下げてください。",
    "The model ends with two softmaxes (or sigmoids), one behind the other: so no class can have a probability above {highest:.3f}, and it learns slowly or not at all. Leave one of the two out, the last layer's activation or the layer behind it.": "モデルの最後でソフトマックス（またはシグモイド）を2回重ねています。そのため、どのクラスの確率も {highest:.3f} を超えられず、学習がとても遅いか、まったく進みません。最後の層の活性化関数か、その後の層のどちらかを外してください。",
    "No training image that was looked at has a confidence above {confidence:.3f}, and {accuracy:.0%} of them are classified correctly. A softmax (or sigmoid) of another one's outputs gives about {highest:.3f} at most. If the model has two: leave one of the two out, the last layer's activation or the layer behind it.": "調べた訓練画像の {accuracy:.0%} に正解しているのに、確信度はどの画像でも {confidence:.3f} 以下です。ソフトマックス（またはシグモイド）を2回重ねると、最大でも約 {highest:.3f} にしかなりません。モデルに2つあれば、最後の層の活性化関数か、その後の層のどちらか一方を外してください。",
    "Of the training and validation images of class {classes} (numbered from 0), {right} of {images} are classified correctly, of the others {others:.0%}. So many images can mostly be learned: look at these images and labels, at class weights and at the last layer.": "クラス {classes}（0から数えた番号）は訓練と検証の {images} 枚のうち {right} 枚しか正解していません（ほかのクラスは {others:.0%}）。これだけの枚数があれば、たいていは学習できます。そのクラスの画像とラベル、クラス重み、最後の層を確かめてください。",
    "Of the validation images of class {one} (numbered from 0), {taken} of {images} are taken for class {other}; the other way round it is {back} of {other_images}. And of the labels of these two classes {train_share:.1%} are class {one} in training, {val_share:.1%} in validation. Training images of class {one} seem to be labelled as class {other}: look at the training images of class {other}.": "クラス {one}（0から数えた番号）の検証画像 {images} 枚のうち {taken} 枚がクラス {other} と判定され、逆は {other_images} 枚のうち {back} 枚です。また、この2クラスのラベルのうちクラス {one} の割合は、訓練で {train_share:.1%}、検証で {val_share:.1%} です。クラス {one} の訓練画像の一部に、クラス {other} のラベルが付いているようです。クラス {other} の訓練画像を確かめてください。",
    "Of the validation images of rare classes {found} of {rare} are classified correctly ({recall:.1%}), of the others {others:.1%}: between {low_points:.0f} and {high_points:.0f} points more (95% interval). Give rare classes more weight (class_weight).": "少数クラスの検証画像は {rare} 枚のうち {found} 枚しか正解していません（再現率 {recall:.1%}）。ほかのクラスは {others:.1%} で、差は {low_points:.0f}〜{high_points:.0f} ポイントです（95%信頼区間）。少数クラスの重み（class_weight）を大きくしてください。",
    "Of {images} validation images of {classes} classes {own:.0%} are classified correctly, and {other:.0%} are taken for one other class, always the same one (class {one} for class {two}, numbered from 0): validation seems to number these classes otherwise than training. Give both the same list of class names.": "{classes} クラスの検証画像 {images} 枚のうち、正解は {own:.0%} で、{other:.0%} はクラスごとに決まった別のクラスと判定されています（クラス {one} はクラス {two} など、番号は0から数えます）。訓練と検証でクラスの番号の付け方が違うようです。両方に同じクラス名の一覧を使ってください。",
    "Of {looked_at} training images {share:.1%} have five nearest images that all belong to one other class; of handwritten digits with correct labels it is less than 1%. Some labels seem to be wrong; if validation was labelled in the same way, there too.": "訓練画像 {looked_at} 枚のうち {share:.1%} は、最も似た5枚がすべて同じ別のクラスのものです（ラベルの正しい手書き数字の画像では 1% 未満です）。ラベルの一部に誤りがあるようです。検証画像にも同じようにラベルが付けられたのなら、そこにも誤りがあると考えられます。",
    "Keras measured a validation accuracy of {logged:.1%}, and OverfittingMonitor {measured:.1%} on the {images} validation images that it was given: the two have other images, labels or pixels. Nothing else can be told. Give OverfittingMonitor the same arrays as model.fit.": "検証の正解率は、Keras の記録では {logged:.1%}、OverfittingMonitor に渡した検証画像 {images} 枚では {measured:.1%} です。画像、ラベル、画素のどれかが違うので、ほかのことは判定できません。model.fit と同じ配列を OverfittingMonitor に渡してください。",
    "All pixels of training images are 0 or 1, and only {ones:.1%} are 1, as after x // 255, or where x / 255 was made a whole number: all greys have become black. Write x / 255.0, which keeps them.": "訓練画像の画素は0と1だけで、1は {ones:.1%} しかありません。x // 255 とした場合や、x / 255 を整数にした場合にこうなり、中間の階調はすべて黒になっています。x / 255.0 とすれば階調が残ります。",
    "All pixels of training images are 0 or 1, and {ones:.1%} are 1. Of drawings in black and white that is right; where the files have greys, x // 255, or x / 255 made a whole number, has turned these black: x / 255.0 keeps them.": "訓練画像の画素は0と1だけで、1は {ones:.1%} です。白黒の線画ならそれで正しいのですが、元のファイルに中間の階調がある場合は、x // 255 とするか x / 255 を整数にしたことで、それらがすべて黒になっています。x / 255.0 とすれば階調が残ります。",
    "Pixels of training images go up to {largest:.2g} only, as where they were divided by 255 twice. Divide them once.": "訓練画像の画素は最大でも {largest:.2g} しかなく、255 で2回割ったときの値です。割るのは1回だけにしてください。",
    "Pixels go up to {largest:g}, and the model divides them by {divisor:g} once more: what is left differs by {reached:.4f} at most, between black and white. Give it pixels to 255, or leave its layer Rescaling out.": "画素の値は最大 {largest:g} なのに、モデルがさらに {divisor:g} で割っているので、黒と白の差でも {reached:.4f} しか残りません。0〜255 の画素を渡すか、モデルの Rescaling 層を外してください。",
    "Pixels of training images go up to {train_largest:g}, those of validation images up to {val_largest:g}: it seems that only one of the two is scaled. Leave both as they are in the files, and scale them in the model: keras.layers.Rescaling(1 / 255) as its first layer.": "画素の値は訓練画像で最大 {train_largest:g}、検証画像で最大 {val_largest:g} です。片方だけが正規化されているようです。どちらもファイルの値のまま渡し、モデルの最初の層 keras.layers.Rescaling(1 / 255) で正規化してください。",
    "Simple models have a loss of {loss:.2f} on {images} training images that they did not learn from and of {val_loss:.2f} on {val_images} validation images: too large a difference for chance. Probably some labels of training images are wrong, or validation is easier. Look at the labels of training images.": "簡単なモデルの損失は、学習に使っていない訓練画像 {images} 枚で {loss:.2f}、検証画像 {val_images} 枚で {val_loss:.2f} で、偶然とは言えない差があります。訓練画像のラベルの一部が誤っているか、検証画像のほうがやさしいと考えられます。訓練画像のラベルを確かめてください。",
    "The accuracy is {accuracy:.1%} on training images and {val_accuracy:.1%} on validation images: a gap of {gap_points:z.1f} points, between {low_points:z.1f} and {high_points:z.1f} (95% interval). Whether it overfits a little cannot be told: if other images ({images}) were drawn for validation, {again:.0%} of the draws would be called overfitting.": "正解率は訓練 {accuracy:.1%}、検証 {val_accuracy:.1%}、差は {gap_points:z.1f} ポイントです（95%信頼区間 {low_points:z.1f}〜{high_points:z.1f}）。少しだけ過学習しているかどうかは決められません。検証画像（{images} 枚）を選び直すと、{again:.0%} の場合に過学習と判定されます。",
    "The accuracy is {accuracy:.1%} on training images and {val_accuracy:.1%} on validation images: a gap of {gap_points:z.1f} points, between {low_points:z.1f} and {high_points:z.1f} (95% interval, {images} images).": "正解率は訓練 {accuracy:.1%}、検証 {val_accuracy:.1%}、差は {gap_points:z.1f} ポイントです（95%信頼区間 {low_points:z.1f}〜{high_points:z.1f}、検証 {images} 枚）。",
    "The accuracy is {accuracy:.1%} on training images and {val_accuracy:.1%} on validation images: a gap of {gap_points:z.1f} points, between {low_points:z.1f} and {high_points:z.1f} (95% interval, {images} images). What could be reached on these data is not known here.": "正解率は訓練 {accuracy:.1%}、検証 {val_accuracy:.1%}、差は {gap_points:z.1f} ポイントです（95%信頼区間 {low_points:z.1f}〜{high_points:z.1f}、検証 {images} 枚）。このデータでどこまで達することができるかは、ここではわかりません。",
    "The accuracy on training images minus that on validation images is between {low_points:+z.0f} and {high_points:+z.0f} points (95% interval): with so few validation images ({images}) it is not known how large the gap is.": "訓練の正解率から検証の正解率を引いた差は、{low_points:+z.0f}〜{high_points:+z.0f} ポイントです（95%信頼区間）。検証画像が {images} 枚しかないので、差の大きさははっきりしません。",
    "The accuracy on training images, {accuracy:.1%}, is not clearly above that of guessing ({majority:.1%}), and none of the known causes was found. Let the network train on 32 images alone: it should learn them by heart.": "訓練画像での正解率 {accuracy:.1%} は当てずっぽう（{majority:.1%}）をはっきりとは超えず、既知の原因は見つかりませんでした。32枚の画像だけで学習させてみてください。丸暗記できるはずです。",
    "The accuracy on training images, {accuracy:.1%}, is not clearly above that of guessing ({majority:.1%}). Pixels go up to {largest:g}, and no layer of the model scales them: put keras.layers.Rescaling(1 / {range:g}) first.": "訓練画像での正解率 {accuracy:.1%} は当てずっぽう（{majority:.1%}）をはっきりとは超えていません。画素の値は最大 {largest:g} で、モデルに正規化する層がありません。最初の層に keras.layers.Rescaling(1 / {range:g}) を置いてください。",
    "The labels go from {first} to {last}, and classes are numbered from 0: {outputs} output(s) have no image. It does little harm; labels = labels - {first} and a last layer of {classes} outputs mend it.": "ラベルは {first} から {last} までですが、クラスの番号は 0 から数えます。出力のうち {outputs} 個には画像がありません。害はほとんどありませんが、labels = labels - {first} とし、最後の層の出力を {classes} 個にすれば直ります。",
    "The loss is not a finite number (NaN or infinite) even before training. Look for such values in the images: np.isfinite(images).all() must be True; then for a layer of your own that gives them.": "学習の前から、損失が有限の数ではありません（NaN または無限大）。画像にそのような値がないか調べてください（np.isfinite(images).all() が True になるはずです）。なければ、そのような値を出す自作の層がないか調べてください。",
    "The loss of training images came down to {lowest:.3g} after epoch {epoch}, and in the end it was {loss:.3g}; that of guessing is {guessing:.3g}. Lower the learning rate.": "訓練画像の損失はエポック {epoch} で {lowest:.3g} まで下がったのに、最後は {loss:.3g} でした（当てずっぽうなら {guessing:.3g}）。学習率を下げてください。",
    "The network classifies {accuracy:.1%} of its own training images correctly (95% interval up to {high:.1%}), where a simple method or another run classifies {reference:.1%} of unseen images correctly.": "自分の訓練画像でも正解率は {accuracy:.1%} です（95%信頼区間の上限 {high:.1%}）。簡単な方法か別の実験では、見たことのない画像でも {reference:.1%} に達しています。",
    "The network classifies {accuracy:.1%} of its training images correctly, and validation images not clearly better than guessing: {right} of {images}. A simple method reaches {reference:.1%} there. Validation images may reach the network in another form than training images: look at range of the pixels, colour order, size.": "訓練画像の正解率は {accuracy:.1%} なのに、検証画像では当てずっぽうをはっきりとは超えていません（{images} 枚中 {right} 枚）。簡単な方法では {reference:.1%} に達しています。検証画像が訓練画像と違う形でネットワークに入っている可能性があります。画素の値の範囲、色の順序、大きさを確かめてください。",
    "The network classifies {accuracy:.1%} of its training images correctly, and validation images not clearly better than guessing: {right} of {images}. It seems that the labels do not belong to the images, in training or in validation. Look at some images with their labels.": "訓練画像の正解率は {accuracy:.1%} なのに、検証画像では当てずっぽうをはっきりとは超えていません（{images} 枚中 {right} 枚）。訓練か検証のラベルが画像と対応していないようです。画像をいくつか、ラベルと合わせて見てください。",
    "The network classifies {accuracy:.1%} of the training images and {val_accuracy:.1%} of the validation images correctly: {gap_points:.1f} points less, between {low_points:.1f} and {high_points:.1f} (95% interval). The gap may be smaller: if other images ({images}) were drawn for validation, {otherwise:.0%} of the draws would not be called overfitting.": "正解率は訓練 {accuracy:.1%}、検証 {val_accuracy:.1%}、差は {gap_points:.1f} ポイントです（95%信頼区間 {low_points:.1f}〜{high_points:.1f}）。本当の差はもっと小さいかもしれません。検証画像（{images} 枚）を選び直すと、{otherwise:.0%} の場合は過学習と判定されません。",
    "The network classifies {accuracy:.1%} of the training images and {val_accuracy:.1%} of the validation images correctly: {gap_points:.1f} points less, between {low_points:.1f} and {high_points:.1f} (95% interval, {images} images).": "正解率は訓練 {accuracy:.1%}、検証 {val_accuracy:.1%}、差は {gap_points:.1f} ポイントです（95%信頼区間 {low_points:.1f}〜{high_points:.1f}、検証 {images} 枚）。",
    "The network classifies {accuracy:.1%} of the validation images correctly, where a simple method or another run reaches {reference:.1%}. On training images it is {train_accuracy:.1%}, which is not clearly more: that is not called overfitting.": "検証の正解率は {accuracy:.1%} ですが、簡単な方法か別の実験では {reference:.1%} に達しています。訓練の正解率も {train_accuracy:.1%} で、はっきり高いとは言えないので、過学習とは判定しません。",
    "The network no longer learns: in a layer {share:.1%} of the units are 0 for all images that were looked at; before training it was {before:.1%} at most. Lower the learning rate.": "ネットワークはもう学習していません。ある層のユニットの {share:.1%} が、調べたすべての画像に対して 0 です（学習前は、最も多い層でも {before:.1%}）。学習率を下げてください。",
    "The training loss is not a finite number (NaN or infinite), for the first time in epoch {epoch}. Lower the learning rate first.": "エポック {epoch} で、訓練の損失が有限の数でなくなりました（NaN または無限大）。まず学習率を下げてください。",
    "The validation loss was lowest after epoch {best}, at {lowest:.3g}, and rose to {loss:.3g}, more than that of training images; the validation accuracy went from {before:.1%} to {after:.1%}.": "検証の損失はエポック {best} で最も低く {lowest:.3g}、その後 {loss:.3g} まで上がりました。訓練画像の損失より大きく上がっています。検証の正解率は {before:.1%} から {after:.1%} になりました。",
    "There are no validation images: whether the network overfits cannot be told. Keep some back: OverfittingMonitor((images, labels), (val_images, val_labels)).": "検証画像がありません。過学習しているかどうかは判断できません。画像の一部を検証用に取っておいてください：OverfittingMonitor((images, labels), (val_images, val_labels))",
    "Training images of one colour all over: {images} of {all_images}. Nothing can be learned from them: see what went wrong when they were made, or leave them out.": "訓練画像 {all_images} 枚のうち {images} 枚は全面が同じ色で、そこから学べることはありません。作るときに何が起きたかを確かめるか、取り除いてください。",
    "Validation images of a class of which training has no image (class {examples}; numbered from 0): {images} of {all_images}. The network cannot know it. Split again so that each class is on both sides, or look whether both number the classes alike.": "検証画像 {all_images} 枚のうち {images} 枚は、訓練画像が1枚もないクラス（0から数えて {examples} 番）のものです。ネットワークには知りようがありません。すべてのクラスが両方に入るように分け直すか、クラスの番号の付け方が同じかを確かめてください。",
    "Validation images of one colour all over: {images} of {all_images}. Nobody can tell their class: see what went wrong when they were made, or leave them out.": "検証画像 {all_images} 枚のうち {images} 枚は全面が同じ色で、クラスは誰にもわかりません。作るときに何が起きたかを確かめるか、取り除いてください。",
    "Validation images that are copies of training images: {images}, such as {examples}: the validation accuracy is likely too high. Leave the copies out of training, and train again.": "検証画像のうち {images} 枚は訓練画像の複製です（{examples}）。検証の正解率は実際より高く出ていると考えられます。複製を訓練から除いて、学習し直してください。",
    "Validation images that look like altered copies of training images: {images}, such as {examples}: the validation accuracy is likely too high. Look at the pairs, leave the copies out of training, and train again.": "検証画像のうち {images} 枚は、訓練画像を加工した複製のように見えます（{examples}）。検証の正解率は実際より高く出ていると考えられます。組を見て、複製を訓練から除き、学習し直してください。",
    "Validation images that look like copies of training images: {images}, such as {examples}; and training images look like copies of one another, as frames of a film do. The validation accuracy is likely too high. Keep on one side of the split what belongs together: groups=look_alike, or a word of the names as in groups='(.+)_'.": "検証画像のうち {images} 枚は、訓練画像の複製のように見えます（{examples}）。訓練画像どうしも、動画の各コマのように似ています。検証の正解率は実際より高く出ていると考えられます。ひとまとまりの画像を訓練か検証の片側に置いてください：groups=look_alike、または名前の共通部分で groups='(.+)_' など。",
    "With the same weights the loss of training images is {stored:.2f} with batch normalisation's stored averages and {anew:.2f} with averages taken anew: in inference the network is not the one that was trained. More steps help, or keras.layers.BatchNormalization(momentum=0.9).": "同じ重みでも、訓練画像の損失は、バッチ正規化に保存された平均では {stored:.2f}、取り直した平均では {anew:.2f} です。推論時のネットワークは、学習したものと違うものになっています。ステップ数を増やすか、keras.layers.BatchNormalization(momentum=0.9) を使うと改善します。",
    "Look in the report at the images of each class on both sides, and at recall by class.": "レポートで、訓練と検証のクラスごとの画像数と、クラスごとの再現率を見る。",
    "Half as strong an augmentation: {settings}.": "データ拡張を半分の強さにする：{settings}。",
    "Let the data doctor look again: it says what differs, and of which images.": "データ検査をもう一度行う。何が違うか、どの画像かがわかります。",
    "Look at the surest mistakes on validation images, with their labels: figures/mistakes_val.png.": "検証画像のうち、最も高い確信度で間違えた画像をラベルと合わせて見る：figures/mistakes_val.png。",
    "Look at training and validation images as the network gets them: range of the pixels, colour order, size; the data doctor says what differs.": "ネットワークに入る訓練画像と検証画像を見比べる（画素の値の範囲、色の順序、大きさ）。データ検査で、違いがあるかどうかがわかります。",
    "Stop where the validation loss is lowest, and keep the weights of that epoch: {settings}.": "検証の損失が最も低いところで学習を止め、そのエポックの重みを残す：{settings}。",
    "After {epochs} epoch(s) the accuracy on training images, {accuracy:.1%}, is not yet clearly above that of guessing ({majority:.1%}), and no fault was found: too early to tell more.": "{epochs} エポック後の訓練画像での正解率 {accuracy:.1%} は、まだ当てずっぽう（{majority:.1%}）をはっきりとは超えていませんが、異常は見つかりませんでした。これ以上を言うには早すぎます。",
    # Experiments
    "Augmentation (shifts and turns; augmentation.flip=true too, where a mirrored image is of the same class) with three times the epochs.": "データ拡張（移動と回転。左右反転しても同じクラスなら augmentation.flip=true も）を使い、エポック数を3倍にする。",
    "Keep images that look alike on one side of the split; expect a lower, true accuracy.": "似ている画像を訓練か検証の片側にまとめる。正解率は下がりますが、それが本当の値です。",
    "The training has not ended: resume it.": "学習はまだ終わっていないので、続きから学習する。",
    "Twice as many training images; whether they would help, the learning curve tells.": "訓練画像を2倍に増やす。効果があるかどうかは学習曲線（データ量）で調べられます。",
    "Dropout {model_options_dropout} with three times the epochs.": "ドロップアウト {model_options_dropout} にして、エポック数を3倍にする。",
    "Augmentation and dropout {model_options_dropout} with three times the epochs.": "データ拡張とドロップアウト {model_options_dropout} を使い、エポック数を3倍にする。",
    "Three times the epochs: {epochs}.": "エポック数を3倍（{epochs}）にする。",
    "Ten times the learning rate: {learning_rate:g}; `find-rate` suggests one too.": "学習率を10倍（{learning_rate:g}）にする。`find-rate` でも候補がわかります。",
    "Three times the learning rate: {learning_rate:g}.": "学習率を3倍（{learning_rate:g}）にする。",
    "A tenth of the learning rate: {learning_rate:g}.": "学習率を10分の1（{learning_rate:g}）にする。",
    "Less that holds the weights back: {settings}.": "重みを抑えるものを弱める：{settings}。",
    "A larger network: {model}.": "大きいモデルにする：{model}。",
    "A network with skip connections: {model}.": "スキップ接続のあるモデルにする：{model}。",
    "More steps for the averages, by smaller batches: {batch_size}.": "平均のためのステップ数を、バッチサイズを {batch_size} に小さくして増やす。",
    "Averages over fewer steps: batch normalisation's momentum {model_options_batch_norm_momentum}.": "平均をより少ないステップで取る：バッチ正規化のモメンタムを {model_options_batch_norm_momentum} にする。",
    "All training images in place of a part of them.": "訓練画像を一部だけでなく全部使う。",
    "Let images of rare classes count for more.": "少数クラスの画像の重み（クラス重み）を大きくする。",
    "Label smoothing 0.1.": "ラベル平滑化 0.1 を使う。",
    "A larger share of the images for validation.": "検証に使う画像の割合を増やす。",
    "Leave the copies out, and train again; expect a lower, true accuracy.": "複製を除いて学習し直す。正解率は下がりますが、それが本当の値です。",
    "See whether the network can learn 32 images by heart; if not, something is wrong in it.": "32枚の画像を丸暗記できるか試す。できなければモデルのどこかが誤っています。",
    "Let `find-rate` suggest a learning rate.": "`find-rate` で学習率の候補を調べる。",
    "Two more seeds, to see how much of the accuracy is chance.": "乱数シードを2つ増やし、正解率のどれだけが偶然かを見る。",
    # Around them
    "networks on digits, MNIST, CIFAR-10 and vehicles, three seeds each": "digits・MNIST・CIFAR-10・乗り物の画像、シード3つずつ",
    "{pairs} pair(s) of your own runs": "自分たちの実験 {pairs} 組",
    "{name} ({cause})": "{name}（{cause}）",
    "Also {name}: {message}": "ほかに：{name}。{message}",
    "Try {number}: {message}{price}": "次の実験 {number}：{message}{price}",
    " It helped in {helped} of {tried} measured cases ({measured}); in this run that would be {lowest:+z.1f} to {highest:+z.1f} points, in the middle {gain:+z.1f}.": "測定した {tried} 例中 {helped} 例で正解率が上がりました（{measured}）。この実験の誤りの数にあてはめると {lowest:+z.1f}〜{highest:+z.1f} ポイント、中央の値は {gain:+z.1f} です。",
    " Price: {epochs} epoch(s).": "費用：{epochs} エポック。",
    "Epoch {epoch}: accuracy {accuracy:.1%} on training images": "エポック {epoch}：訓練の正解率 {accuracy:.1%}",
    "Epoch {epoch}: accuracy {accuracy:.1%} on training images, {val_accuracy:.1%} on validation images; gap {gap:z.1f} points (95% interval {low:z.1f} to {high:z.1f}); validation loss lowest after epoch {best}": "エポック {epoch}：訓練の正解率 {accuracy:.1%}、検証 {val_accuracy:.1%}、差 {gap:z.1f} ポイント（95%信頼区間 {low:z.1f}〜{high:z.1f}）。検証の損失が最も低いのはエポック {best}",
    # The log of a team's runs
    "One seed each: says something about these two trained networks, not about the settings.": "乱数シードは1つずつなので、学習した2つのネットワークについての結果であり、設定そのものについての結論ではありません。",
    "Difference: accuracy minus that of the run it came from, on the same validation images, in points, with its 95% interval (Newcombe 1998, paired). An interval that contains 0 shows no difference.": "差：同じ検証画像での正解率から元の実験の正解率を引いた値（ポイント）と、その95%信頼区間（Newcombe 1998、対応あり）。0を含む区間は、差を示しません。",
    "run": "実験",
    "when": "日時",
    "status": "状態",
    "model": "モデル",
    "came from": "元の実験",
    "changed": "変更点",
    "validation accuracy": "検証の正解率",
    "difference": "差",
    "test used": "テストの使用",
    "finished": "完了",
    "training now": "学習中",
    "cut off": "中断",
    "paused": "一時停止",
    "interrupted": "停止",
    "pruned": "打ち切り",
    "failed": "失敗",
    "damaged": "破損",
    "{accuracy:.1f}% ({low:.1f} to {high:.1f})": "{accuracy:.1f}% ({low:.1f}〜{high:.1f})",
    "{difference:+.1f} ({low:+.1f} to {high:+.1f})": "{difference:+.1f} ({low:+.1f}〜{high:+.1f})",
    "{uses} time(s)": "{uses} 回",
    "{done} of {epochs} epochs": "{epochs} エポック中 {done}",
    "diverged in {where}": "発散（{where}）",
    "another seed": "別の乱数シード",
    "nothing: the same settings and seed": "なし（設定もシードも同じ）",
    "({count} changes at once: which of them did it cannot be told)": "（同時に {count} か所の変更：どれの効果かは区別できません）",
    "metrics_val.json is missing or damaged": "metrics_val.json がないか壊れている",
    "it has no result": "結果なし",
    "its images are not known": "画像の記録がない",
    "the first result on its images and split": "この画像・分割での最初の結果",
    "other images or another split than {parent}": "{parent} と画像または分割が違う",
    "{parent} has no result": "{parent} に結果がない",
    "predictions_val.npz of {run} is missing or damaged": "{run} の predictions_val.npz がないか壊れている",
    "accuracy minus that of the run it came from [points], 95% interval; open circles: more than one change at once": "元の実験の正解率との差（ポイント）、95%信頼区間。白丸：同時に複数の変更",
    "What each change gained or lost on validation": "変更ごとの検証の正解率の変化",
    " (the last {most} of {n})": "（{n} 件のうち最後の {most} 件）",
    "Written: {file}": "書き込み：{file}",
    # A team's report
    "{split}: {how}": "{split}：{how}",
    "training": "訓練",
    "training minus validation": "訓練 − 検証",
    "validation": "検証",
    "test": "テスト",
    "official": "配布元による分割",
    "{percent}% of all images, by content": "全画像の {percent}%（内容で決定）",
    "{percent}% of the images that are not test, by content": "テスト以外の画像の {percent}%（内容で決定）",
    "fold {fold} of {folds} of the images that are not test, by content": "テスト以外の画像を {folds} 分割したうちの {fold} 番（0から数え、内容で決定）",
    ", groups together": "、同じグループは同じ側",
    "Classifying images: {source}": "画像分類：{source}",
    "Made of the files of {count} runs on {today}. What stands in a dotted box is still to be written: in team_notes.md beside this page, then run the same command again.": "{count} 件の実験の記録から {today} に作成。点線の枠はまだ書いていないところです。このページと同じフォルダの team_notes.md に書き、同じコマンドをもう一度実行してください。",
    "to be written in team_notes.md, below “{heading}”: {what}": "team_notes.md の「{heading}」の下に書く：{what}",
    "Title": "題名",
    "what your report is called": "レポートの題名",
    "Team": "班",
    "Earlier work": "関連研究",
    "Further notes": "そのほか",
    "Write below the headings. The page takes it from here: python -m pbl report --team. This file is made once, and then only read; it stays yours.": "それぞれの見出しの下に書いてください。python -m pbl report --team が、ここからページに取り込みます。このファイルは最初に1回だけ作られ、そのあとは読まれるだけなので、書いたものは消えません。",
    "Write your part in {notes}, then run the same command again. Still open: {headings}.": "自分たちの文章を {notes} に書き、同じコマンドをもう一度実行してください。まだ書いていないところ：{headings}。",
    "The page that lay there was changed by hand; it is kept as {file}.": "前のページは手で書き換えられていたので、{file} として残しました。",
    "{file} is not text in UTF-8. Save it as UTF-8, then run the same command again.": "{file} は UTF-8 の文章ではありません。UTF-8 で保存し、同じコマンドをもう一度実行してください。",
    "the team's number and its members": "班の番号とメンバー",
    "Question and hypothesis": "問いと仮説",
    "what you wanted to find out, what you expected, and why": "何を調べたかったか、どうなると予想したか、その理由",
    "what others did on this question, with sources": "同じ問いについてほかの人が行ったこと（出典つき）",
    "Data": "データ",
    "Source: {source}.": "データの出典：{source}。",
    "{classes} classes.": "{classes} クラス。",
    "The split: {how}.": "分割：{how}。",
    "images": "画像の枚数",
    "all": "合計",
    "The rarest class in training is {name}, with {images} images.": "訓練で最も少ないクラスは {name} で、{images} 枚です。",
    "What the check of the data found:": "データ検査で見つかったこと：",
    "The check of the data before training found nothing serious in training and validation images.": "学習前のデータ検査では、訓練画像と検証画像に大きな問題は見つかりませんでした。",
    "The runs hold no check of the data.": "データ検査の記録がありません。",
    "Methods": "方法",
    "In all runs: {settings}.": "すべての実験に共通：{settings}。",
    "trainable weights": "学習する重みの数",
    "settings that differ": "異なる設定",
    "runs": "実験",
    "Shown are the {shown} most accurate of {all} settings, and the least accurate.": "{all} 通りの設定のうち、正解率の高い {shown} 通りと、最も低い1通りを示します。",
    "Results": "結果",
    "validation images": "検証画像",
    "seeds": "シード数",
    "accuracy, mean": "正解率（平均）",
    "lowest to highest seed": "シードごとの最小〜最大",
    "95% interval": "95%信頼区間",
    "{low:.1f} to {high:.1f}": "{low:.1f}〜{high:.1f}",
    "Of one seed the interval (Wilson) covers chance in the validation images alone; of several it covers chance in training too (t interval over seeds and images).": "シード1つの信頼区間（Wilson）は、検証画像の偶然だけを表します。複数のシードでは、学習の偶然も含みます（シードと画像についてのt区間）。",
    "On the test split {run} is right on {accuracy:.1f}% ({low:.1f} to {high:.1f}, {images} images); the run has used the test split {uses} time(s).": "テストデータでの {run} の正解率は {accuracy:.1f}%（95%信頼区間 {low:.1f}〜{high:.1f}、{images} 枚）。この実験でテストデータを使った回数：{uses} 回。",
    "A comparison of several runs stands in the appendix.": "複数の実験の比較は付録にあります。",
    "Appendix: comparison ({name})": "付録：比較（{name}）",
    "{count} more row(s) stand in {name}.": "残りの {count} 行は {name} にあります。",
    "Learning curves of the best run, {run}": "最もよい実験 {run} の学習曲線",
    "Its confusion matrix on the validation images": "その検証画像での混同行列",
    "What was tried": "試したこと",
    "{count} earlier run(s) are left out here. All of them: python -m pbl log.": "これより前の {count} 件は省略しました。すべての一覧：python -m pbl log",
    "the first": "最初の実験",
    "validation accuracy; difference in points": "検証の正解率；差（ポイント）",
    "What helped, and what did not": "効果があったこと、なかったこと",
    "Helped (the whole interval lies above 0)": "効果があった（区間全体が0より上）",
    "Harmed (the whole interval lies below 0)": "悪くなった（区間全体が0より下）",
    "No difference that these images could show": "この画像の枚数では差を示せなかった",
    "and {count} more, with smaller differences": "ほか {count} 件（差はこれより小さい）",
    "{count} changes at once": "同時に {count} か所の変更",
    "The same settings again": "同じ設定でのくり返し",
    "No two runs can be compared yet.": "比較できる実験の組がまだありません。",
    "Discussion": "考察",
    "why it came out so; what the images that were mistaken have in common; what you would do next": "なぜこの結果になったか、誤って分類された画像の共通点、次に何をするか",
    "Limits": "限界",
    "Of {all} settings {single} were trained with one seed only: how much chance there is in a training is not known of them.": "{all} 通りの設定のうち {single} 通りは、乱数シード1つだけで学習しました。学習の偶然がどれだけあるかは、これらではわかりません。",
    "{count} differences were looked at: were all truly 0, about {false:.1f} would have an interval without 0.": "{count} 個の差を調べました。すべて本当は0だったとしても、約 {false:.1f} 個は0を含まない区間になります。",
    "Validation chose the best of {count} runs, so its accuracy there is rather too high.": "{count} 件の実験から検証の正解率で最もよいものを選んだので、その検証の正解率は実際より高めに出ています。",
    "The test split was used {uses} time(s): {used}. The best of several looks is too good to be true.": "テストデータを使った回数：{uses} 回（{used}）。何度も見たうちの最良の値は、実際より高く出ます。",
    "The test split has not been used yet: every accuracy here is of images by which the settings were chosen.": "テストデータはまだ使っていません。ここの正解率はどれも、設定を選ぶのに使った画像での値です。",
    "{count} more run(s) are on other images or another split, or damaged; they are not in this draft.": "ほかに {count} 件の実験が、別の画像・別の分割であるか壊れているため、この下書きには入っていません。",
    "Conclusion": "結論",
    "your answer to the question, no stronger than the results": "問いへの答え（結果が示す以上に強く言わない）",
    "task={task}": "タスク：{task}",
    "task={task}, {metric} {value:.4g}": "タスク：{task}、{metric} {value:.4g}",
    "{parent} was evaluated on other validation images": "{parent} は別の検証画像で評価されている",
}  # fmt: skip


@functools.cache
def _tables() -> dict[str, str]:
    """All sentences, English to Japanese; read when the first one is said in Japanese."""
    from pbl.languages import (
        anomaly,
        boxes,
        commands,
        contrast,
        demonstration,
        detection,
        doctor,
        errors,
        export,
        figures,
        generation,
        grading,
        report,
        search,
        segmentation,
        settings,
    )

    tables = (
        doctor.WORDS,
        doctor.FOUND,
        errors.ERRORS,
        settings.SETTINGS,
        commands.SAID,
        grading.GRADING,
        report.PAGE,
        figures.FIGURES,
        anomaly.ANOMALY,
        generation.GENERATION,
        contrast.CONTRAST,
        segmentation.SEGMENTATION,
        boxes.BOXES,
        detection.DETECTION,
        export.EXPORT,
        demonstration.DEMONSTRATION,
        search.SEARCH,
        SENTENCES,
    )
    return {english: japanese for table in tables for english, japanese in table.items()}


def is_known(template: Any) -> bool:
    """Whether a sentence is one of ours, and not what a stranger wrote into a file."""
    return isinstance(template, str) and template in _tables()


def choose_language(language: str | None = None) -> str:
    """Returns the language, "en" or "ja", of what is shown to a person.

    Args:
        language: What was asked for. Else the variable `PBL_LANGUAGE` says it, else the locale: the first that is set of the
            variables `LC_ALL`, `LC_MESSAGES` and `LANG`, such as `ja_JP.UTF-8`; on Windows, where none is set, the language of the system. What
            is not Japanese is English.
    """
    names = ("PBL_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
    chosen = language or next(filter(None, map(os.environ.get, names)), None) or _read_system_language()
    return (
        "ja" if chosen[:2].lower() in ("ja", "jp", "日本") else "en"
    )  # jp is the country's name, typed for the language's


def _read_system_language() -> str:
    """That in which Windows shows its own menus; "en" on other systems, whose variables say it."""
    if sys.platform != "win32":
        return "en"
    import ctypes

    return "ja" if ctypes.windll.kernel32.GetUserDefaultUILanguage() & 0x3FF == 0x11 else "en"  # LANG_JAPANESE


def choose_screen_language(language: str | None = None) -> str:
    """Returns the language as `choose_language` does, but English where the screen has no Japanese letters (`PYTHONIOENCODING=ascii`)."""
    chosen = choose_language(language)
    if chosen == "ja":
        try:
            "日本語".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
        except (UnicodeEncodeError, LookupError):
            return "en"
    return chosen


def say(template: str, language: str | None = None, /, **details: Any) -> str:
    """Fills a sentence in the reader's language.

    Args:
        template: The English sentence, with `{name}` fields.
        language: "en" or "ja"; that of the screen unless given.
        **details: The fields. A `Sentence` or an `InputError` among them is said in the same language.
    """
    is_japanese = (language or choose_screen_language()) == "ja"
    return for_screen(translate(template, details) if is_japanese else template.format(**details), keep_lines=True)


def say_sentence(sentence: Any, language: str | None = None) -> str:
    """Says a `Sentence` or an `InputError` in the reader's language; any other text as it is."""
    if isinstance(getattr(sentence, "template", None), str):
        return say(sentence.template, language, **sentence.fields)
    return for_screen(sentence, keep_lines=True)


def translate(template: str, details: dict) -> str:
    """Fills the Japanese form of a sentence; the English one where there is none."""
    tables = _tables()
    said = {}
    for name, value in details.items():
        if isinstance(getattr(value, "template", None), str):
            value = say_sentence(value, "ja")
        elif name in ("reason", "what", "kind", "statistic", "file") and isinstance(
            value, str
        ):  # the words of the system, or of another process
            value = tables.get(value, value)
        said[name] = value
    return tables.get(template, template).format(**said).replace("。。", "。")  # a sentence that ends in another one
