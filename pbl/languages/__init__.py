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
    "healthy": "問題なし",
    "unknown": "原因不明",
    "contaminated_training": "正常画像への異常の混入",
    "no_threshold": "しきい値を決められない",
    "reconstructs_nothing": "再構成できていない",
    "reconstructs_everything": "何でも再構成してしまう",
    "overfits_normal_images": "正常画像への過学習",
    "no_better_than_baseline": "簡単な方法を上回らない",
    "blind_to_kinds": "見分けられない異常がある",
    "threshold_uncertain": "しきい値が不確か",
    "no_anomalies": "異常画像がない",
    "scaled_twice": "画素の二重の正規化",
    "blank_images": "何も写っていない画像",
    "class_absent": "訓練にないクラス",
    "label_order_suspected": "クラス番号の食い違いの疑い",
    "class_shares_differ": "訓練と検証のクラスの割合の違い",
    "class_never_found": "まったく正解しないクラス",
    "double_softmax": "二重のソフトマックス",
}
CAUSES = {
    "low_rate": "学習率が低すぎる",
    "train_longer": "まだ学習の途中",
    "over_regularised": "正則化が強すぎる",
    "capacity": "モデルの表現力が足りない",
    "gap": "訓練と検証の差",
    "stop_earlier": "学習のしすぎ",
    "over_confident": "正解率は下がらず、確信度だけが過大",
    "or_small_gap": "または小さな差",
}
SENTENCES = {
    # Findings
    "Of {looked_at} training images {share:.0%} have five nearest images that all belong to one other class; of digits with right labels it is less than 1%. Labels seem to be wrong, and of validation, which was drawn like them, it is likely as many.": "訓練画像 {looked_at} 枚のうち {share:.0%} は、最も似た5枚がすべて同じ別のクラスのものです（ラベルの正しい数字画像では 1% 未満です）。ラベルに誤りがあるようで、同じように選ばれた検証画像でも同じくらいと考えられます。",
    "As far as simple models can tell, at least {low:.0%} of the labels of {looked_at} training images that were looked at are wrong; of validation, which was drawn like them, it is likely as many: the accuracy on right labels is another one.": "簡単なモデルで調べた限り、訓練画像 {looked_at} 枚のラベルのうち少なくとも {low:.0%} が誤っています。同じように選ばれた検証画像でも同じくらいと考えられ、正しいラベルでの正解率は今の値とは異なります。",
    "Before training the loss was {loss:.3g}, and that of guessing is {guessing:.2f}: pixels go up to {largest:g}, and no layer of the model scales them. Put keras.layers.Rescaling(1 / 255) first.": "学習前の損失が {loss:.3g} でした（当てずっぽうなら {guessing:.2f}）。画素の値は最大 {largest:g} で、モデルに正規化する層がありません。最初の層に keras.layers.Rescaling(1 / 255) を置いてください。",
    "Class {most} is {train_share:.0%} of the training and {val_share:.0%} of the validation images. The network is right on {val_accuracy:.1%} of validation, and with training's shares of the classes it would be {alike:.1%}, near its {accuracy:.1%} on training images: split again, each class in its share, or say which shares are the true ones.": "クラス {most} は訓練画像の {train_share:.0%}、検証画像の {val_share:.0%} です。検証の正解率は {val_accuracy:.1%} ですが、クラスの割合が訓練と同じなら {alike:.1%} で、訓練の {accuracy:.1%} に近くなります。クラスの割合をそろえて分け直すか、どちらの割合が本来のものかを明記してください。",
    "Count the images of each class on both sides, and look at recall by class.": "訓練と検証のそれぞれでクラスごとの画像数を数え、クラス別の再現率を見る。",
    "Half as strong an augmentation: {settings}.": "データ拡張を半分の強さにする：{settings}。",
    "Let the data doctor look again: it says what differs, and of which images.": "データ検査をもう一度行う。何が違うか、どの画像かがわかります。",
    "Look at the worst mistakes on validation images, with their labels.": "検証画像での最もひどい誤りを、ラベルと合わせて見る。",
    "No image has a confidence above {confidence:.3f}, and {accuracy:.0%} of the training images are right. A softmax (or sigmoid) of another one's outputs gives {highest:.3f} at most: leave one of the two out, the last layer's activation or the layer behind it.": "訓練画像の {accuracy:.0%} に正解しているのに、確信度はどの画像でも {confidence:.3f} 以下です。ソフトマックス（またはシグモイド）を2回重ねると、最大でも {highest:.3f} にしかなりません。最後の層の活性化関数か、その後の層のどちらか一方を外してください。",
    "Of class {classes} {right} of {images} training and validation images are right, of the others {others:.0%}. Look at its images and labels, and at class weights and the last layer: a class that has enough images can be learned.": "クラス {classes} は訓練と検証の {images} 枚のうち {right} 枚しか正解していません（ほかのクラスは {others:.0%}）。画像は足りているので、本来は学習できるはずです。そのクラスの画像とラベル、クラス重み、最後の層を確かめてください。",
    "Of {images} validation images of class {one} {taken} are taken for class {other}, of {other_images} of class {other} {back} for class {one}; and of the labels of these two classes {train_share:.0%} are class {one} in training, {val_share:.0%} in validation. Training images of class {one} seem to be labelled as class {other}: look at the images of that one.": "クラス {one} の検証画像 {images} 枚のうち {taken} 枚がクラス {other} と判定され、逆はクラス {other} の {other_images} 枚のうち {back} 枚です。また、この2クラスのラベルのうちクラス {one} の割合は、訓練で {train_share:.0%}、検証で {val_share:.0%} です。クラス {one} の訓練画像の一部に、クラス {other} のラベルが付いているようです。そこにクラス {one} の画像が混ざっていないか、見てください。",
    "Of {images} validation images of {classes} classes {own:.0%} are right, and {other:.0%} are taken for one other class each (class {one} for class {two}): validation seems to number these classes otherwise than training. Give both the same list of class names.": "{classes} クラスの検証画像 {images} 枚のうち、正解は {own:.0%} で、{other:.0%} はクラスごとに決まった別のクラスと判定されています（クラス {one} はクラス {two} など）。訓練と検証でクラスの番号の付け方が違うようです。両方に同じクラス名の一覧を使ってください。",
    "Pixels go up to {largest:g}, and the model divides them by {divisor:.0f} once more: its first layer gets {reached:.4f} at most. Give it pixels to 255, or leave its layer Rescaling out.": "画素の値は最大 {largest:g} なのに、モデルがさらに {divisor:.0f} で割っているので、最初の層に届く値は最大 {reached:.4f} です。0〜255 の画素を渡すか、モデルの Rescaling 層を外してください。",
    "Pixels of training images go up to {train_largest:g}, those of validation images up to {val_largest:g}: the one are scaled and the other are not. Scale both alike, best in the model: keras.layers.Rescaling(1 / 255) as its first layer.": "画素の値は訓練画像で最大 {train_largest:g}、検証画像で最大 {val_largest:g} です。片方だけが正規化されています。両方を同じように扱ってください。モデルの最初の層に keras.layers.Rescaling(1 / 255) を置くのが確実です。",
    "See how training and validation images reach the network: range of the pixels, colour order, size.": "訓練画像と検証画像がどのような形でネットワークに入るかを確かめる（画素の値の範囲、色の順序、大きさ）。",
    "Stop where the validation loss is lowest, and keep the weights of that epoch: {settings}.": "検証の損失が最も低いところで学習を止め、そのエポックの重みを残す：{settings}。",
    "The accuracy is {accuracy:.1%} on training images and {val_accuracy:.1%} on validation images: a gap of {gap_points:.1f} points, between {low_points:.1f} and {high_points:.1f} (95% interval). {images} validation images cannot tell whether that is a small gap: of as many other ones {again:.0%} of draws would be called overfitting.": "正解率は訓練 {accuracy:.1%}、検証 {val_accuracy:.1%}、差は {gap_points:.1f} ポイントです（95%信頼区間 {low_points:.1f}〜{high_points:.1f}）。検証画像 {images} 枚では、小さな過学習かどうかは決められません。同じ枚数の別の検証画像なら、{again:.0%} の場合に過学習と判定されます。",
    "The accuracy on training images, {accuracy:.1%}, is not clearly above that of guessing ({majority:.1%}). Pixels go up to {largest:g}, and no layer of the model scales them: put keras.layers.Rescaling(1 / 255) first.": "訓練画像での正解率 {accuracy:.1%} は当てずっぽう（{majority:.1%}）をはっきりとは超えていません。画素の値は最大 {largest:g} で、モデルに正規化する層がありません。最初の層に keras.layers.Rescaling(1 / 255) を置いてください。",
    "The labels go from {first} to {last}, and classes are counted from 0: of {outputs} output(s) no image is. It does little harm; labels = labels - {first} and a last layer of {classes} mend it.": "ラベルは {first} から {last} までですが、クラスの番号は 0 から数えます。出力のうち {outputs} 個には画像がありません。害はほとんどありませんが、labels = labels - {first} とし、最後の層を {classes} 個にすれば直ります。",
    "The network knows {accuracy:.1%} of the training images and {val_accuracy:.1%} of the validation images: {gap_points:.1f} points less, between {low_points:.1f} and {high_points:.1f} (95% interval). The gap may be smaller: of as many other validation images ({images}) {otherwise:.0%} of draws would not be called overfitting.": "正解率は訓練 {accuracy:.1%}、検証 {val_accuracy:.1%}、差は {gap_points:.1f} ポイントです（95%信頼区間 {low_points:.1f}〜{high_points:.1f}）。本当の差はもっと小さいかもしれません。同じ枚数（{images} 枚）の別の検証画像なら、{otherwise:.0%} の場合は過学習と判定されません。",
    "{images} of {all_images} training images are of one colour all over: their labels can only be learned by heart. See what went wrong when they were made, or leave them out.": "訓練画像 {all_images} 枚のうち {images} 枚は全面が同じ色で、ラベルを丸暗記するしかありません。作るときに何が起きたかを確かめるか、取り除いてください。",
    "{images} of {all_images} validation images are of a class of which training has no image (class {examples}): the network cannot know it. Split again so that each class is on both sides, or look whether both count classes alike.": "検証画像 {all_images} 枚のうち {images} 枚は、訓練画像が1枚もないクラス（クラス {examples}）のものです。ネットワークには知りようがありません。すべてのクラスが両方に入るように分け直すか、クラスの番号の付け方が同じかを確かめてください。",
    "{images} of {all_images} validation images are of one colour all over: nobody can tell their class. See what went wrong when they were made, or leave them out.": "検証画像 {all_images} 枚のうち {images} 枚は全面が同じ色で、クラスは誰にもわかりません。作るときに何が起きたかを確かめるか、取り除いてください。",
    "With the same weights the loss of training images is {stored:.2f} with batch normalisation's stored averages and {anew:.2f} with averages taken anew: in inference the network is not the one that was trained.": "同じ重みでも、訓練画像の損失は、バッチ正規化に保存された平均では {stored:.2f}、取り直した平均では {anew:.2f} です。推論時のネットワークは、学習したものと違うものになっています。",
    "Of the rare classes {found} of {rare} validation images were found ({recall:.0%}), of the others {others:.0%}: between {low_points:.0f} and {high_points:.0f} points more.": "少数クラスの検証画像は {rare} 枚のうち {found} 枚しか正解していません（再現率 {recall:.0%}）。ほかのクラスは {others:.0%} で、差は {low_points:.0f}〜{high_points:.0f} ポイントです。",
    "Before training {share:.0%} of the units of '{layer}' were 0 for all images, and nothing was learned since.": "学習前から、層 '{layer}' のユニットの {share:.0%} がすべての画像に対して 0 で、その後も何も学習していません。",
    "{images} validation images are copies of training images, such as {examples}: the validation accuracy is too high.": "検証画像のうち {images} 枚は訓練画像の複製です（{examples}）。検証の正解率は実際より高く出ています。",
    "A simple classifier tells validation images from training images (area under the ROC curve {auc:.2f}, equal ones .50), most plainly by {statistic}, and the network is {gap_points:.1f} points worse on them.": "簡単な分類器で検証画像と訓練画像を見分けられます（ROC曲線の下の面積 {auc:.2f}、差がなければ .50。最も違うのは {statistic}）。検証画像での正解率は {gap_points:.1f} ポイント低くなっています。",
    "With {images} validation images the accuracy on training images minus that on validation images is between {low_points:+.0f} and {high_points:+.0f} points: too wide to judge.": "検証画像が {images} 枚では、訓練と検証の正解率の差は {low_points:+.0f}〜{high_points:+.0f} ポイントとしか言えず、幅が広すぎて判断できません。",
    "After epoch {best} the validation loss rose by {rise:.0%}, more than that of training images; the validation accuracy went from {before:.1%} to {after:.1%}.": "エポック {best} のあと、検証の損失が {rise:.0%} 上がりました。訓練画像の損失より大きく上がっています。検証の正解率は {before:.1%} から {after:.1%} になりました。",
    "The accuracy is {accuracy:.1%} on training images and {val_accuracy:.1%} on validation images: a gap of {gap_points:.1f} points, between {low_points:.1f} and {high_points:.1f} (95% interval, {images} images).": "正解率は訓練 {accuracy:.1%}、検証 {val_accuracy:.1%}、差は {gap_points:.1f} ポイントです（95%信頼区間 {low_points:.1f}〜{high_points:.1f}、検証 {images} 枚）。",
    "The training loss is no finite number from epoch {epoch} on.": "訓練の損失がエポック {epoch} から有限の数ではありません（NaN または無限大）。",
    "Before training the loss was {loss:.3g}, and that of guessing is {guessing:.2f}: the pixels are not scaled, or the initial weights are too large.": "学習前の損失が {loss:.3g} でした（当てずっぽうなら {guessing:.2f}）。画素の値が正規化されていないか、重みの初期値が大きすぎます。",
    "The training loss came down to {lowest:.2f} after epoch {epoch} and ended at {loss:.2f}; that of guessing is {guessing:.2f}.": "訓練の損失はエポック {epoch} で {lowest:.2f} まで下がったのに、最後は {loss:.2f} でした（当てずっぽうなら {guessing:.2f}）。",
    "The network no longer learns: in a layer {share:.0%} of the units are 0 for all images, before training {before:.0%}.": "ネットワークはもう学習していません。ある層のユニットの {share:.0%} がすべての画像に対して 0 です（学習前は {before:.0%}）。",
    "Before training the gradient of the first layer was {ratio:.1e} times that of the last, and next to nothing was learned since.": "学習前の最初の層の勾配は最後の層の {ratio:.1e} 倍しかなく、その後もほとんど何も学習していません。",
    "Before training the largest gradient of a layer was {norm:.1e}: all images look alike to the last layer, and next to nothing was learned since.": "学習前の勾配は、最も大きい層でも {norm:.1e} でした。最後の層にはどの画像も同じに見え、その後もほとんど何も学習していません。",
    "Simple models have a loss of {loss:.2f} on {images} training images that they did not learn from and of {val_loss:.2f} on {val_images} validation images, more than by chance: labels of training images are wrong, or validation is easier.": "簡単なモデルの損失は、学習に使っていない訓練画像 {images} 枚で {loss:.2f}、検証画像 {val_images} 枚で {val_loss:.2f} で、偶然とは言えない差があります。訓練画像のラベルに誤りがあるか、検証のほうがやさしいと考えられます。",
    "After epoch {epoch} the loss was {loss:.2f} on the training images that the network learned from and {val_loss:.2f} on validation images that it had not seen: the wrong way round, by more than chance. Labels of training images are wrong, or validation is easier.": "エポック {epoch} のあと、学習に使った訓練画像の損失が {loss:.2f}、見たことのない検証画像の損失が {val_loss:.2f} と、偶然を超えて大小が逆になっています。訓練画像のラベルが誤っているか、検証画像のほうがやさしいかのどちらかです。",
    "In the second half the training loss rose by {rises:.2f} in all, more than the {descent:.2f} that it ever came down.": "後半で訓練の損失は合計 {rises:.2f} も上がりました。下がった分（{descent:.2f}）より大きい値です。",
    "There are no validation images: whether the network overfits cannot be told.": "検証画像がありません。過学習しているかどうかは判断できません。",
    "Of all that the training loss came down, {late:.0%} came in the last {epochs} epoch(s), and validation improved too: it still learns.": "訓練の損失の低下のうち {late:.0%} が最後の {epochs} エポックで起き、検証もよくなっています。まだ学習の途中です。",
    "The network knows {accuracy:.1%} of its own training images (at most {high:.1%}), where {reference:.1%} of unseen images can be reached.": "自分の訓練画像でも正解率は {accuracy:.1%}（高くても {high:.1%}）です。このデータでは、見たことのない画像でも {reference:.1%} に達することができます。",
    "The network is right on {accuracy:.1%} of the validation images, where {reference:.1%} can be reached, and it does no better on its training images: it has learned too little, not too much.": "検証の正解率は {accuracy:.1%} ですが、このデータでは {reference:.1%} に達することができます。訓練画像でもはっきり高くはないので、学習しすぎではなく学習不足です。",
    "The network knows {accuracy:.1%} of the training images and {val_accuracy:.1%} of the validation images: {gap_points:.1f} points less, between {low_points:.1f} and {high_points:.1f} (95% interval, {images} images).": "正解率は訓練 {accuracy:.1%}、検証 {val_accuracy:.1%}、差は {gap_points:.1f} ポイントです（95%信頼区間 {low_points:.1f}〜{high_points:.1f}、検証 {images} 枚）。",
    "After {epochs} epoch(s) the accuracy on training images, {accuracy:.1%}, is not yet clearly above that of guessing ({majority:.1%}), and no fault was found: too early to tell more.": "{epochs} エポック後の訓練画像での正解率 {accuracy:.1%} は、まだ当てずっぽう（{majority:.1%}）をはっきりとは超えていませんが、異常は見つかりませんでした。これ以上を言うには早すぎます。",
    "The accuracy on training images, {accuracy:.1%}, is not clearly above that of guessing ({majority:.1%}), and no known cause was found.": "訓練画像での正解率 {accuracy:.1%} は当てずっぽう（{majority:.1%}）をはっきりとは超えず、既知の原因は見つかりませんでした。",
    "The network knows {accuracy:.0%} of its training images and hardly more of the validation images than guessing: {right} of {images}. It seems that the labels do not belong to the images.": "訓練画像の正解率は {accuracy:.0%} なのに、検証画像は当てずっぽうとほとんど変わりません（{images} 枚中 {right} 枚）。ラベルが画像と対応していないようです。",
    "The network knows {accuracy:.0%} of its training images and hardly more of the validation images than guessing: {right} of {images}, where {reference:.0%} were reached otherwise. Validation images may reach it in another form.": "訓練画像の正解率は {accuracy:.0%} なのに、検証画像は当てずっぽうとほとんど変わりません（{images} 枚中 {right} 枚）。ほかの方法では {reference:.0%} に達しています。検証画像が訓練画像と違う形でネットワークに入っている可能性があります。",
    "The accuracy is {accuracy:.1%} on training images and {val_accuracy:.1%} on validation images: a gap of {gap_points:.1f} points, between {low_points:.1f} and {high_points:.1f} (95% interval, {images} images). What could be reached on these data is not known here.": "正解率は訓練 {accuracy:.1%}、検証 {val_accuracy:.1%}、差は {gap_points:.1f} ポイントです（95%信頼区間 {low_points:.1f}〜{high_points:.1f}、検証 {images} 枚）。このデータでどこまで達することができるかは、ここではわかりません。",
    "All training images are of one class: there is nothing to learn.": "訓練画像がすべて同じクラスなので、学習することがありません。",
    # Experiments
    "Twice as many training images; whether they would help, the learning curve tells.": "訓練画像を2倍に増やす。効果があるかどうかは学習曲線（データ量）で調べられます。",
    "Dropout {model_options_dropout} with three times the epochs.": "ドロップアウト {model_options_dropout} にして、エポック数を3倍にする。",
    "Augmentation (shifts and turns; mirrored too, where a mirrored image is of the same class) with three times the epochs.": "データ拡張（移動と回転。左右反転しても同じクラスなら反転も）を使い、エポック数を3倍にする。",
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
    "The training has not ended: go on with it.": "学習はまだ終わっていません。続きから学習する。",
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
    " It helped in {helped} of {tried} measured cases ({measured}); in this run that would be {lowest:+.1f} to {highest:+.1f} points, in the middle {gain:+.1f}.": "測定した {tried} 例中 {helped} 例で正解率が上がりました（{measured}）。この実験の誤りの数にあてはめると {lowest:+.1f}〜{highest:+.1f} ポイント、中央値 {gain:+.1f} です。",
    " Price: {epochs} epoch(s).": "費用：{epochs} エポック。",
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
    "Written: {file}": "書き込み：{file}",
    # A team's report
    "{split}: {how}": "{split}：{how}",
    "training": "訓練",
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
    from pbl.languages import anomaly, commands, doctor, errors, grading, report, settings

    tables = (
        doctor.WORDS,
        doctor.FOUND,
        errors.ERRORS,
        settings.SETTINGS,
        commands.SAID,
        grading.GRADING,
        report.PAGE,
        anomaly.ANOMALY,
        SENTENCES,
    )
    return {english: japanese for table in tables for english, japanese in table.items()}


def choose_language(language: str | None = None) -> str:
    """Returns the language, "en" or "ja", of what is shown to a person.

    Args:
        language: What was asked for. Else the variable `PBL_LANGUAGE` says it, else the locale: the first that is set of the
            variables `LC_ALL`, `LC_MESSAGES` and `LANG`, such as `ja_JP.UTF-8`; on Windows, where none is set, the language of the system. What
            is not Japanese is English.
    """
    names = ("PBL_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
    chosen = language or next(filter(None, map(os.environ.get, names)), None) or _read_system_language()
    return "ja" if chosen[:2].lower() == "ja" else "en"


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
        elif name in ("reason", "what", "kind", "statistic") and isinstance(
            value, str
        ):  # the words of the system, or of another process
            value = tables.get(value, value)
        said[name] = value
    return tables.get(template, template).format(**said).replace("。。", "。")  # a sentence that ends in another one
