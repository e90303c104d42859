"""What the data doctor finds, in Japanese."""

from collections.abc import Mapping
from typing import Any

FOUND = {
    "Files in the class folders that are not read as images: {files} ({listed}); convert pictures among them to JPEG or PNG.": "クラスのフォルダに、画像として読まれないファイルが {files} 個あります（{listed}）。その中に写真や図があれば、JPEG か PNG に変換してください。",
    "{folder} holds folders of the same names as those beside it ({shared}): is it the data set once more? Take it away, or give it alone.": "{folder} の中に、そのとなりと同じ名前のフォルダ（{shared}）があります。同じデータセットがもう一度入っているのではありませんか。取り除くか、これだけを指定してください。",
    "{listed} hold the same folders ({shared}). If these are the classes, {listed} are splits, to be called train, val and test, or kinds of the same images, of which one is given: {one}.": "{listed} の中に同じ名前のフォルダ（{shared}）があります。これらがクラスなら、{listed} はデータの分割（train、val、test という名前にします）か、同じ画像の種類違い（1 つだけを指定します：{one}）です。",
    "The {split} split has no image of {classes} of its {all_classes} classes ({listed}): add images of them, or remove the classes.": "{split}データには、{all_classes} クラスのうち {classes} クラス（{listed}）の画像がありません。画像を加えるか、そのクラスを除いてください。",
    "Classes with fewer than {limit} training images: {classes}, the smallest '{rarest}' with {fewest}; collect more, or merge classes.": "訓練画像が {limit} 枚より少ないクラスの数は {classes} で、最も少ない '{rarest}' は {fewest} 枚です。画像を集めるか、クラスをまとめてください。",
    "Images enlarged more than twice to the model's {height}x{width} pixels: {images} of {all_images}, such as {examples}; replace them by larger ones, leave them out, or take a smaller image_size.": "モデルの {height}x{width} 画素に合わせて2倍より大きく引き伸ばされる画像が {all_images} 枚のうち {images} 枚あります（{examples}）。大きい画像に替えるか、除くか、image_size を小さくしてください。",
    "Images with less than a quarter of the usual {median} pixels a side: {images}, such as {examples}; look whether they are thumbnails.": "一辺が普通の {median} 画素の4分の1より小さい画像が {images} 枚あります（{examples}）。サムネイルでないか見てください。",
    "Images of which the crop to {height}x{width} pixels keeps less than {limit:.0%}: {images}, such as {examples}; take fit=pad, or cut out what matters.": "{height}x{width} 画素に切り取ると {limit:.0%} も残らない画像が {images} 枚あります（{examples}）。fit=pad を使うか、大事な部分を切り出してください。",
    "Images of one colour all over: {images}, such as {examples}; leave them out, or see what went wrong when they were made.": "全体が1色の画像が {images} 枚あります（{examples}）。除くか、作ったときに何が起きたかを調べてください。",
    "The brightest pixel of {images} of {all_images} images, such as {examples}, is at most {largest} of 255 (in files of 16 bits: about {of_16_bits:,} of 65,535): nearly black. Images of 10 to 14 bits in files of 16, as of x-rays, must be multiplied before they are saved, those of 12 bits by 16.": "画像 {all_images} 枚のうち {images} 枚（{examples}）は、最も明るい画素でも 255 のうち {largest} しかなく（16 ビットのファイルなら 65,535 のうち約 {of_16_bits:,}）、ほぼ真っ黒です。X線写真のように 10〜14 ビットの画像を 16 ビットのファイルに入れるときは、保存する前に画素の値を何倍かにしてください（12 ビットなら 16 倍）。",
    "Images that occur more than once, with different labels: {contents}, such as {examples}; look at them and keep the right one.": "同じ画像に異なるラベルが付いているものが {contents} 組あります（{examples}）。画像を見て、正しいほうだけを残してください。",
    "Images that occur more than once in {split}: {contents}, in {images} copies, such as {examples}; each counts as often as it is there, so leave out all but one.": "{split}に2回以上現れる画像が {contents} 種類、{images} 枚あります（{examples}）。その数だけ重く数えられるので、1枚だけを残してください。",
    "{images} pairs of images look like one picture with two labels, such as {examples}; look at them and keep the right one.": "同じ画像に異なるラベルが付いていると思われる組が {images} 組あります（{examples}）。画像を見て、正しいほうだけを残してください。",
    "Image files that cannot be decoded: {images}, such as {examples}; copy or download them again, or leave them out. The first one: {reason}": "読み込めない画像ファイルが {images} 個あります（{examples}）。コピーかダウンロードをやり直すか、除いてください。最初のファイルの理由：{reason}",
    "Folders that are not used, since they hold no class folders: {folders}; predict can read them.": "クラスのフォルダがないので使われないフォルダがあります：{folders}。predict でなら読めます。",
    "Folders that are not used, since their images have no masks: {folders}; predict can read them.": "画像にマスクがないので使われないフォルダがあります：{folders}。predict でなら読めます。",
    "Images with damaged metadata (EXIF, colour profile), which was ignored: {images}, such as {examples}; if one is turned, save it again.": "付加情報（EXIF、カラープロファイル）が壊れている画像が {images} 枚あります（{examples}）。付加情報は無視しました。向きが違う画像は、保存し直してください。",
    "{n} mask(s) have no image, such as {name}: nothing is learned from them. Are images missing, or named otherwise?": "画像のないマスクが {n} 枚あります（{name} など）。学習には使われません。画像が足りないか、名前が違っていませんか。",
    "No mask has the value 0, which is the background. The commonest value, {value}, is taken for it: {share:.0%} of the pixels. If it is another, name the classes in classes.txt, the background's first, each line with its value.": "背景の値 0 を持つマスクがありません。最も多い値 {value}（画素の {share:.0%}）を背景とします。違うときは、classes.txt に、背景を1行目にして、各行に値とクラス名を書いてください。",
    "No mask marks {listed} ({classes} of {all_classes} classes): a network cannot learn it. Give images of it, or take it out of the list of classes.": "どのマスクにも塗られていないクラスがあります：{listed}（{all_classes} クラスのうち {classes} クラス）。これは学習できません。そのクラスの画像を加えるか、クラスの一覧から外してください。",
    "No {split} mask marks {listed} ({classes} of {all_classes} classes), and {earlier} masks do: it is judged and cannot be learned. Give more images of it, or take another split (split_seed).": "{earlier}のマスクにはあるのに、{split}のどのマスクにも塗られていないクラスがあります：{listed}（{all_classes} クラスのうち {classes} クラス）。評価されるのに学習できません。そのクラスの画像を増やすか、別の分け方（split_seed）にしてください。",
    "No {split} mask marks {listed} ({classes} of {all_classes} classes), and {earlier} masks do: it cannot be judged there. Give more images of it, or take another split (split_seed).": "{earlier}のマスクにはあるのに、{split}のどのマスクにも塗られていないクラスがあります：{listed}（{all_classes} クラスのうち {classes} クラス）。そこでは評価できません。そのクラスの画像を増やすか、別の分け方（split_seed）にしてください。",
    "Classes that fewer than {limit} training masks mark: {classes}, the rarest '{rarest}' in {fewest}; collect more images of them, or merge classes.": "塗られた訓練マスクが {limit} 枚より少ないクラスの数は {classes} で、最も少ない '{rarest}' は {fewest} 枚です。画像を集めるか、クラスをまとめてください。",
    "Pixels of the training masks: {listed}. A network that marks nothing has {background:.1%} of the pixels right: look at Dice, not at the share of right pixels.": "訓練マスクの画素の割合：{listed}。何も塗らないネットワークでも、画素の {background:.1%} が正しくなります。正しい画素の割合ではなく、Dice を見てください。",
    "Classes that have less than {limit:.1%} of the training pixels: {classes} ({listed}); a network may pass over them: try task_options.loss=dice, or task_options.class_weights={weights}.": "訓練画素の {limit:.1%} に満たないクラスの数は {classes} です（{listed}）。ネットワークが見落とすかもしれません。task_options.loss=dice か task_options.class_weights={weights} を試してください。",
    "Images in which nothing is marked: {images} of {all_images} ({share:.1%}), such as {examples}; nearly all: a network that marks nothing is hardly ever wrong. Leave most of them out, or cut the images to where something is.": "何も塗られていない画像が {all_images} 枚のうち {images} 枚（{share:.1%}）あります（{examples}）。ほとんどすべてなので、何も塗らないネットワークでもほぼ間違えません。その多くを除くか、対象のあるところだけを切り出してください。",
    "Images in which nothing is marked: {images} of {all_images} ({share:.1%}), such as {examples}; they show whether something is found where nothing is, and count apart from Dice.": "何も塗られていない画像が {all_images} 枚のうち {images} 枚（{share:.1%}）あります（{examples}）。何もないところに何かを見つけてしまわないかがわかる画像で、Dice とは別に数えます。",
    "Images of which all that is marked is lost at {height}x{width} pixels: {images}, such as {examples}: it is cut off, or smaller than a pixel. Take fit=pad, or a larger image_size.": "{height}x{width} 画素にすると、塗られたところがすべてなくなる画像が {images} 枚あります（{examples}）。切り取られるか、1画素より小さくなっています。fit=pad を使うか、image_size を大きくしてください。",
    "The masks mark {share:.0%} of the training pixels, and {edge:.0%} of those at the edges of the images, such as {examples}: are they inverted? The background is black (0), what is sought is not.": "マスクが訓練画素の {share:.0%}、画像の端の画素の {edge:.0%} を塗っています（{examples}）。白黒が逆ではありませんか。背景は黒（0）、探すものは黒以外です。",
    "The masks equal their images in {images} of {looked_at} training images in which something is marked, such as {examples}: do masks stand in the place of images?": "何かが塗られた訓練画像 {looked_at} 枚のうち {images} 枚で、マスクが画像と同じです（{examples}）。画像のところにマスクが入っていませんか。",
    "In {images} of {looked_at} training images in which something is marked, such as {examples}, a limit of brightness alone gives the mask: if the masks were made so, a network learns that limit and nothing else.": "何かが塗られた訓練画像 {looked_at} 枚のうち {images} 枚（{examples}）では、明るさのしきい値だけでマスクが得られます。マスクがそのように作られたものなら、ネットワークはそのしきい値しか学びません。",
    "Images that occur more than once, with different masks: {contents}, such as {examples}; look at them and keep the right one.": "同じ画像に異なるマスクが付いているものが {contents} 組あります（{examples}）。画像を見て、正しいほうだけを残してください。",
    "{n} image(s) have several masks, such as {name}: they are united, each pixel is of the class of the last one that marks it.": "マスクが複数ある画像が {n} 枚あります（{name} など）。一つに合わせ、画素は最後に塗ったマスクのクラスになります。",
    "Images with another file of the same name beside them: {pairs}, such as {image} and {mask}. Is it a mask (where something lies in the image), or the image once more? Move such files out of the class folders.": "となりに同じ名前の別のファイルがある画像が {pairs} 枚あります（{image} と {mask} など）。マスク（画像のどこに何があるかを示すもの）か、同じ画像がもう一度入っているのではありませんか。そのようなファイルは、クラスのフォルダの外へ移してください。",
    "Images in the validation split: only {images}. An accuracy of about 90% on so few has a 95% interval from {low:.0%} to {high:.0%}: give it a larger share (validation_fraction=0.3), or compare by cross-validation (compare --train ... --folds 5).": "検証用データは {images} 枚しかありません。この枚数では、約 90% の正解率の95%信頼区間が {low:.0%}〜{high:.0%} になります。検証の割合を増やす（validation_fraction=0.3）か、交差検証（compare --train ... --folds 5）で比べてください。",
    "Images in the validation split: {images}, but of only {groups} group(s). An accuracy of about 90% on so few has a 95% interval from {low:.0%} to {high:.0%}: give it more groups (validation_fraction=0.3), or compare by cross-validation (compare --train ... --folds 5).": "検証用データは {images} 枚ありますが、グループは {groups} 個しかありません。この個数では、約 90% の正解率の95%信頼区間が {low:.0%}〜{high:.0%} になります。検証に入れるグループを増やす（validation_fraction=0.3）か、交差検証（compare --train ... --folds 5）で比べてください。",
    "The training images are unbalanced: '{common}' has {most}, '{rare}' only {fewest}; look at recall by class and macro F1 rather than accuracy, and try class weights (class_weight=balanced).": "訓練画像の枚数が偏っています（'{common}' は {most} 枚、'{rare}' は {fewest} 枚だけ）。正解率よりもクラスごとの再現率とマクロF1を見て、クラス重み（class_weight=balanced）を試してください。",
    "Images enlarged more than twice to the model's {height}x{width} pixels: {images} of {all_images}, such as {examples}; a smaller image_size trains faster, and these lose nothing.": "モデルの {height}x{width} 画素に合わせて2倍より大きく引き伸ばされる画像が {all_images} 枚のうち {images} 枚あります（{examples}）。image_size を小さくすると速く学習でき、これらの画像で失うものはありません。",
    "Grey images among others in colour: {grey} of {all_images} (the rarer kind: {examples}); channels=1 makes them equal.": "{all_images} 枚のうち {grey} 枚がグレースケールで、ほかはカラーです（少ないほう：{examples}）。channels=1 でそろいます。",
    "Grey images among others in colour: {grey} of {all_images}, {greyest_share:.0%} of '{greyest}' but {least_share:.0%} of '{least}'. A network can tell many of them apart by colour alone: take channels=1.": "{all_images} 枚のうち {grey} 枚がグレースケールで、'{greyest}' では {greyest_share:.0%}、'{least}' では {least_share:.0%} です。その多くを色の有無だけで見分けられるので、channels=1 にしてください。",
    "Exact copies: {images} of {all_images} {split} images ({share:.2%}) stand in {earlier} too, such as {examples}: the {split} score is likely too good, so leave the copies out of {earlier} (check --leave-out FILE).": "完全に同じ画像：{split}画像 {all_images} 枚のうち {images} 枚（{share:.2%}）が{earlier}にもあります（{examples}）。{split}の結果は実際より高く出ていると考えられます。複製を{earlier}から除いてください（check --leave-out ファイル名）。",
    "Altered copies: {found} of {looked_at} {split} images ({share:.1%}; exact copies are not counted) look like {earlier} images, such as {examples}: not clearly more than large collections of photographs hold by nature ({twins:.1%}); look at the pairs.": "加工された複製：{split}画像 {looked_at} 枚のうち {found} 枚（{share:.1%}。完全に同じ画像は数えません）が、{earlier}画像に似ています（{examples}）。大きな写真集に自然に含まれる割合（{twins:.1%}）より、はっきり多くはありません。組を見てください。",
    "Altered copies: {found} of {looked_at} {split} images ({share:.1%}; exact copies are not counted) look like {earlier} images, such as {examples}: too few to change the accuracy much; look at the pairs.": "加工された複製：{split}画像 {looked_at} 枚のうち {found} 枚（{share:.1%}。完全に同じ画像は数えません）が、{earlier}画像に似ています（{examples}）。少ないので、正解率はほとんど変わりません。組を見てください。",
    "Altered copies: {found} of {looked_at} {split} images ({share:.1%}; exact copies are not counted) look like {earlier} images, such as {examples}: by their names these images seem to belong together; keep such images on one side with groups='{groups}'.": "加工された複製：{split}画像 {looked_at} 枚のうち {found} 枚（{share:.1%}。完全に同じ画像は数えません）が、{earlier}画像に似ています（{examples}）。名前から、これらはひとまとまりの画像だと考えられます。groups='{groups}' で、まとまりを同じ側に置いてください。",
    "Altered copies: {found} of {looked_at} {split} images ({share:.1%}; exact copies are not counted) look like {earlier} images, such as {examples}: look at the pairs, leave the copies out of {earlier} (check --leave-out FILE), and expect the accuracy to fall.": "加工された複製：{split}画像 {looked_at} 枚のうち {found} 枚（{share:.1%}。完全に同じ画像は数えません）が、{earlier}画像に似ています（{examples}）。組を見て、複製を{earlier}から除いてください（check --leave-out ファイル名）。正解率は下がるはずです。",
    "Altered copies: {images} of {looked_at} training images ({share:.1%}; exact copies are not counted) look like another one, such as {examples}, of another group: look whether groups='...' names what belongs together.": "加工された複製：訓練画像 {looked_at} 枚のうち {images} 枚（{share:.1%}。完全に同じ画像は数えません）が、別のグループの画像に似ています（{examples}）。groups='...' が、まとまりを正しく指しているか確かめてください。",
    "Altered copies: {images} of {looked_at} training images ({share:.1%}; exact copies are not counted) look like another one, such as {examples}, so a split by chance has copies on both sides: by their names these images seem to belong together; keep such images on one side with groups='{groups}'.": "加工された複製：訓練画像 {looked_at} 枚のうち {images} 枚（{share:.1%}。完全に同じ画像は数えません）が、ほかの訓練画像に似ています（{examples}）。無作為に分けると両側に複製が入ります。名前から、これらはひとまとまりの画像だと考えられます。groups='{groups}' で、まとまりを同じ側に置いてください。",
    "Altered copies: {images} of {looked_at} training images ({share:.1%}; exact copies are not counted) look like another one, such as {examples}, so a split by chance has copies on both sides: keep on one side what belongs together (groups=look_alike); or take the originals alone, split, and augment after the split.": "加工された複製：訓練画像 {looked_at} 枚のうち {images} 枚（{share:.1%}。完全に同じ画像は数えません）が、ほかの訓練画像に似ています（{examples}）。無作為に分けると両側に複製が入ります。ひとまとまりの画像を同じ側に置く（groups=look_alike）か、元の画像だけを分けてから、データ拡張してください。",
    "Images unlike all others: {images} of {looked_at}, such as {examples}; clean data have some too, about 1%: look whether these belong here, or are drawings, screenshots or placeholders.": "画像 {looked_at} 枚のうち {images} 枚は、ほかのどの画像にも似ていません（{examples}）。問題のないデータにも1%ほどあります。このデータに属する画像か、それともイラスト、スクリーンショット、代替画像（「画像なし」など）かを確かめてください。",
    "Images nearly of one colour all over: {images} of {looked_at}, such as {examples}; look whether anything can be seen in them.": "画像 {looked_at} 枚のうち {images} 枚は、全体がほぼ1色です（{examples}）。何かが写っているか確かめてください。",
    "Images much less sharp than the others: {images} of {looked_at}, such as {examples}; look whether a person could name them.": "画像 {looked_at} 枚のうち {images} 枚は、ほかの画像よりずっとぼけています（{examples}）。人が見て何かわかるか確かめてください。",
    "A simple classifier tells {split} images from training images (area under the ROC curve {auc:.2f}, 95% interval from {low:.2f}; 0.50 if they were alike); they differ most in {statistic}: look whether both were made and read in the same way, such as 0 to 255, colour order, size.": "簡単な分類器で{split}画像と訓練画像を見分けられます（ROC曲線の下の面積 {auc:.2f}、95%信頼区間の下限 {low:.2f}、差がなければ 0.50）。最も違うのは{statistic}です。両方が同じ方法で作られ、読み込まれているか（0〜255、色の順序、大きさなど）を確かめてください。",
    "The better of two simple methods, {method}, reaches {accuracy:.1%} on validation (95% interval {low:.1%} to {high:.1%}, {images} images): a network clearly below that likely has a fault, or needs more training.": "2つの簡単な方法のうちよいほう（{method}）の検証の正解率は {accuracy:.1%} です（95%信頼区間 {low:.1%}〜{high:.1%}、{images} 枚）。これをはっきり下回るネットワークには、おそらく問題があるか、学習が足りません。",
    "Training images whose five nearest images all belong to one other class: {images} of {looked_at} ({share:.2%}), such as {examples}; look at their labels.": "訓練画像 {looked_at} 枚のうち {images} 枚（{share:.2%}）は、最も似た5枚がすべて同じ別のクラスのものです（{examples}）。ラベルを確かめてください。",
    "Models that did not see them take images of '{one}' and '{other}' for each other in {share:.0%} of cases, far more often than those of other pairs of classes. Either the two look alike, or labels of the two were mixed up: look at some.": "'{one}' と '{other}' の画像は、それを見ていないモデルに {share:.0%} の割合で取り違えられます。ほかのクラスの組よりずっと多い割合です。2つのクラスがよく似ているか、ラベルが混ざっています。画像をいくつか確かめてください。",
    "Simple models have a loss of {loss:.2f} on {images} training images that they did not learn from and of {val_loss:.2f} on {val_images} validation images: too large a difference for chance. Look at the labels of training images: probably some are wrong, or validation is easier.": "簡単なモデルの損失は、学習に使っていない訓練画像 {images} 枚で {loss:.2f}、検証画像 {val_images} 枚で {val_loss:.2f} で、偶然とは言えない差があります。訓練画像のラベルを確かめてください。一部が誤っているか、検証画像のほうがやさしいと考えられます。",
    "As far as simple models can tell, {low:.0%} to {high:.0%} of all labels are wrong. Begin with these {images} of {looked_at} training images ({examples}).": "簡単なモデルからわかる限り、全体のラベルの {low:.0%}〜{high:.0%} が誤りです。訓練画像 {looked_at} 枚のうち、まずこの {images} 枚のラベルを確かめてください（{examples}）。",
    "As far as simple models can tell, {low:.0%} to {high:.0%} of all labels are wrong. Begin with these {images} of {looked_at} training images ({examples}). Tried with {tried:.0%} of the labels changed at random: {changed} of the first {first} were changed ones; mistakes between classes that look alike are harder to find.": "簡単なモデルからわかる限り、全体のラベルの {low:.0%}〜{high:.0%} が誤りです。訓練画像 {looked_at} 枚のうち、まずこの {images} 枚のラベルを確かめてください（{examples}）。ラベルの {tried:.0%} を無作為に変えて試すと、はじめの {first} 枚のうち {changed} 枚が変えたものでした。よく似たクラスどうしの誤りは、これより見つかりにくくなります。",
    "As far as simple models can tell, from none to {high:.0%} of all labels are wrong. To look at some, begin with these {images} of {looked_at} training images ({examples}).": "簡単なモデルからわかる限り、ラベルの誤りは、まったくないか、あっても全体の {high:.0%} までです。確かめるなら、訓練画像 {looked_at} 枚のうち、まずこの {images} 枚（{examples}）を見てください。",
    "As far as simple models can tell, from none to {high:.0%} of all labels are wrong. To look at some, begin with these {images} of {looked_at} training images ({examples}). Tried with {tried:.0%} of the labels changed at random: {changed} of the first {first} were changed ones; mistakes between classes that look alike are harder to find.": "簡単なモデルからわかる限り、ラベルの誤りは、まったくないか、あっても全体の {high:.0%} までです。確かめるなら、訓練画像 {looked_at} 枚のうち、まずこの {images} 枚（{examples}）を見てください。ラベルの {tried:.0%} を無作為に変えて試すと、はじめの {first} 枚のうち {changed} 枚が変えたものでした。よく似たクラスどうしの誤りは、これより見つかりにくくなります。",
}

WORDS = {
    "train": "訓練",
    "val": "検証",
    "test": "テスト",
    "stop": "修正が必要",
    "act": "要確認",
    "note": "参考",
    # The data doctor's checks
    "broken": "読み込めない画像",
    "absent class": "画像のないクラス",
    "small class": "画像の少ないクラス",
    "small validation": "少ない検証用データ",
    "imbalance": "クラス不均衡",
    "small image": "小さい画像",
    "smaller than rest": "ほかより小さい画像",
    "long image": "細長い画像",
    "passed over": "読まれないファイル",
    "set aside": "使われないフォルダ",
    "data set inside": "中にもう一つのデータセット",
    "same folders inside": "中に同じフォルダ",
    "damaged metadata": "壊れた付加情報",
    "masks among images": "画像に混ざったマスク",
    "masks without image": "画像のないマスク",
    "several masks": "一つの画像に複数のマスク",
    "background chosen": "選ばれた背景",
    "absent marks": "塗られていないクラス",
    "seldom marks": "塗られた画像の少ないクラス",
    "class shares": "クラスごとの画素の割合",
    "rare class": "画素の少ないクラス",
    "empty masks": "何も塗られていない画像",
    "lost marks": "塗りが失われる画像",
    "inverted masks": "白黒が逆のマスク",
    "masks are images": "画像と同じマスク",
    "masks by brightness": "明るさだけで決まるマスク",
    "copies with other masks": "マスクの異なる複製",
    "mixed modes": "グレースケールとカラーの混在",
    "constant image": "1色だけの画像",
    "dark images": "ほぼ真っ黒な画像",
    "copies across": "分割をまたぐ複製",
    "copies with other labels": "ラベルの異なる複製",
    "copies within": "分割の中の複製",
    "altered copies": "加工された複製",
    "altered copies in train": "訓練データの中の加工された複製",
    "shift": "分布のずれ（分布シフト）",
    "altered copies with other labels": "ラベルの異なる加工された複製",
    "stranger": "ほかに似ていない画像",
    "faint image": "ほぼ1色の画像",
    "blurred image": "ぼけた画像",
    "labels unlike neighbours": "近い画像と異なるラベル",
    "labels unlike predictions": "予測と異なるラベル",
    "mixed classes": "混ざっているクラス",
    "labels harder than validation": "検証より見分けにくいラベル",
    "reference accuracy": "基準の正解率",
    "5 nearest neighbours": "5近傍法",
    "a linear classifier of edges and colours": "輪郭と色による線形分類器",
    "mean brightness": "平均の明るさ",
    "contrast": "コントラスト",
    "darkest pixel": "最も暗い画素",
    "brightest pixel": "最も明るい画素",
    "5% quantile": "明るさの5%分位点",
    "25% quantile": "明るさの25%分位点",
    "median brightness": "明るさの中央値",
    "75% quantile": "明るさの75%分位点",
    "95% quantile": "明るさの95%分位点",
    "horizontal difference": "横方向の差",
    "vertical difference": "縦方向の差",
    "sharpness": "鮮明さ",
    "mean red": "赤の平均",
    "mean green": "緑の平均",
    "mean blue": "青の平均",
}

# The fields of a finding that hold a word of the doctor's own; a class may be called "test".
WORDS_OF_DOCTOR = ("split", "earlier", "method", "statistic")


def say_finding(finding: Mapping[str, Any], language: str) -> str:
    """Says a finding that stands in a file, `data_check.json`: never by a template of a stranger.

    Args:
        finding: A finding's `template`, `details` and `message`; the message is what is said of a damaged one.
        language: "en" or "ja".
    """
    message, template, details = str(finding.get("message", "")), finding.get("template"), finding.get("details")
    if not isinstance(template, str) or template not in FOUND or not isinstance(details, Mapping):
        return message
    said, words = template, {}
    if language == "ja":
        said = FOUND[template]
        words = {
            name: WORDS.get(details[name], details[name])
            for name in WORDS_OF_DOCTOR
            if isinstance(details.get(name), str)
        }
    try:
        return said.format(**{**details, **words})
    except (LookupError, TypeError, ValueError, AttributeError):
        return message
