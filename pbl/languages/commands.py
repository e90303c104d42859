"""What the commands print and their `--help` says, in Japanese; and typer's own words."""

import functools
import re
from typing import Any

SAID = {
    "Give one of --sweep (or --seeds), --learning-curve, --fresh, --dry-run and --memorise.": "--sweep（または --seeds）、--learning-curve、--fresh、--dry-run、--memorise は、どれか1つだけ指定してください。",
    "--epochs, --minutes and --models are for --train.": "--epochs、--minutes、--models は --train といっしょに使います。",
    "Give --epochs or --minutes, not both: a budget is one or the other.": "--epochs と --minutes は、どちらか一方だけ指定してください。",
    "--train needs experiment files, such as experiments/mnist_mlp.py experiments/digits_resnet20.py.": "--train には実験ファイルが必要です。例：experiments/mnist_mlp.py experiments/digits_resnet20.py",
    "Measuring {run}": "測定中：{run}",
    "Architectures": "アーキテクチャ",
    "What would separate them, four times in five, were the difference the one seen:": "差を示すのに必要なもの（差が今回見えた通りだとして、5回に4回は示せる数）：",
    "and {n} more rows in results.md": "残り {n} 行は results.md にあります",
    "This architecture against that one (over seeds and images)": "アーキテクチャどうしの比較（乱数シードと画像の両方を考慮）",
    "This trained model against that one (over the images alone)": "学習済みモデルどうしの比較（画像だけを考慮）",
    "Which run? Give its folder, such as runs/digits_resnet20/001; or --team for a report of all runs.": "どの実験ですか。runs/digits_resnet20/001 のようにフォルダを指定してください。すべての実験のレポートには --team を付けます。",
    "Not shown: {name}, since {reason}.": "表示していません：{name}（{reason}）。",
    "--csv needs the name of a file.": "--csv にはファイル名が必要です。",
    "The folder {folder} does not exist. Make it first, or give another file after --csv.": "フォルダ {folder} がありません。先に作るか、--csv に別のファイルを指定してください。",
    "image": "画像",
    "probability": "確率",
    "{name} is no setting of the data. Valid: {valid}.": "{name} はデータの設定ではありません。使えるもの：{valid}。",
    "--out {out} is a file. Give a folder.": "--out {out} はファイルです。フォルダを指定してください。",
    "The images differ in size; they are looked at in image_size=64. Give the size that you will train with.": "画像の大きさがそろっていないので、image_size=64 で調べます。学習に使う大きさを指定してください。",
    "check": "検査",
    "finding": "結果",
    "{source}: {images} images; {counts}. {files} file(s) in {folder}": "{source}：{images}。{counts}。{folder} に {files} 個のファイルを書きました。",
    "Describe one: python -m pbl models resnet20": "1つのモデルの説明を見るには：python -m pbl models resnet20",
    "TensorFlow Datasets, prepared in {folder}": "TensorFlow Datasets（{folder} に準備済み）",
    "a path": "パス",
    "a folder of class folders (with or without train/ val/ test/), a .zip of one, or an .npz of x_train, y_train, ...": "クラスごとのフォルダを入れたフォルダ（上に train/ val/ test/ があってもよい）、その .zip、または x_train, y_train などの入った .npz",
    "any other": "その他",
    "TensorFlow Datasets name: mnist, fashion_mnist, cifar10, cats_vs_dogs, ... (downloaded once): tensorflow.org/datasets/catalog": "TensorFlow Datasets の名前：mnist, fashion_mnist, cifar10, cats_vs_dogs など（最初の1回だけダウンロード）：tensorflow.org/datasets/catalog",
    "dataset": "データセット",
    "what": "内容",
    "{n:,} hidden images under opaque names, without labels": "非公開の画像 {n:,} 枚（名前からは中身がわからず、ラベルもない）",
    "yours alone: labels.csv, how the set was made": "教員だけが持つもの：labels.csv、データの作り方",
    "{n:,} images for the teams": "班に配る画像 {n:,} 枚",
    "reference submission": "参考の提出物",
    "Grade with it: python -m pbl grade SUBMISSIONS --data {path}": "採点するには：python -m pbl grade SUBMISSIONS --data {path}",
    "Give one of --predict-only and --score-only.": "--predict-only と --score-only は、どちらか一方だけ指定してください。",
    "--require \"{text}\": valid are accuracy, macro_f1, log_loss and points.": "--require \"{text}\"：使えるのは accuracy、macro_f1、log_loss、points です。",
    "team": "班",
    "{accuracy:.4f} ({low:.4f} to {high:.4f})": "{accuracy:.4f}（{low:.4f}〜{high:.4f}）",
    "class": "クラス",
    "{option} {file}: give a file in a folder that exists, whose name ends in one of {formats}.": "{option} {file}：実在するフォルダの中の、{formats} のどれかで終わるファイル名を指定してください。",
    "Table: {file}": "表：{file}",
    "Picture: {file}": "図：{file}",
    "{accuracy:.4f} (95% interval {low:.4f} to {high:.4f}, {images:,} images)": "{accuracy:.4f}（95%信頼区間 {low:.4f}〜{high:.4f}、{images:,} 枚）",
    "validation log loss": "検証の対数損失",
    "{value:.4f} nats": "{value:.4f} ナット",
    "best epoch": "最良のエポック",
    "{best} of {all} (lowest validation loss; this model was kept)": "{all} エポックのうち {best}（検証の損失が最も低く、このモデルを保存）",
    "seconds": "かかった秒数",
    "figures": "図",
    "at the end": "最後に1回だけ",
    "95% interval {low:.4f} to {high:.4f} (Wilson), {images:,} images": "95%信頼区間 {low:.4f}〜{high:.4f}（ウィルソンの方法）、{images:,} 枚",
    "of '{name}', the positive class": "陽性クラス '{name}' の値",
    ", 95% interval {low:.4f} to {high:.4f} (bootstrap)": "、95%信頼区間 {low:.4f}〜{high:.4f}（ブートストラップ）",
    "mean recall of classes": "クラスごとの再現率の平均",
    "macro {metric}": "{metric}・マクロ平均",
    "mean over classes": "クラスの平均",
    "top-{k} accuracy": "上位{k}位までの正解率",
    "one class against the rest, mean": "各クラスとそれ以外を分ける値の平均",
    "average precision, likewise": "平均適合率（同じくクラスの平均）",
    "log loss": "対数損失",
    "nats": "ナット",
    "Brier score": "ブライアスコア",
    "0 to 2": "0〜2",
    "calibration error; of a calibrated model {mean:.4f}, to {high:.4f}": "較正誤差。完全に較正されたモデルでも平均 {mean:.4f}、最大で {high:.4f}",
    "all images": "すべての画像",
    "validation split": "検証用データ",
    "test split": "テストデータ",
    "{run} on {source}, {which}, model of epoch {epoch}": "{run}（{source}、{which}、エポック {epoch} のモデル）",
    "The run is not finished: its status is '{status}'.": "この実験は終わっていません（状態：{status}）。",
    "A difference of less than {margin:g} points is taken not to matter. {images:,} {split} images.": "{margin:g} ポイントより小さい差は、意味がないとみなします。{split}画像 {images:,} 枚。",
    "{file}: the instructor will see '{status}'. {message}": "{file}：教員には「{status}」と表示されます。{message}",
    "{table}, {page}, feedback for each team in {folder}": "{table}、{page}、各班へのフィードバック：{folder}",
    "Threshold: for {aim} {value:.2f} was chosen {itself} (95% interval {low:.2f} to {high:.2f}: {half}).": "しきい値：{aim} のために {value:.2f} を選びました（{itself}、95%信頼区間 {low:.2f}〜{high:.2f}、{half}）。",
    "All of it runs: {model} on {source}. Nothing was kept.": "すべて動きました：{model}、{source}。何も保存していません。",
    "{file}: {size:,.0f} kB, {pictures} picture(s) in it": "{file}：{size:,.0f} kB、図 {pictures} 個",
    "{severity}: {check}: {n} hidden image(s) have one among the public images ({examples}, ...). The pairs: {file}. --groups PATTERN keeps such together.": "{severity}：{check}：非公開の画像のうち {n} 枚に、対応する画像が公開側にあります（{examples} など）。組の一覧：{file}。--groups PATTERN を使うと、これらは同じ側に入ります。",
    "{file}. Score on the machine with the labels: python -m pbl grade {out} --score-only --data HIDDEN": "{file}。ラベルのあるマシンで採点するには：python -m pbl grade {out} --score-only --data HIDDEN",
    "{done} of {all} epochs are done. The best model so far: python -m pbl evaluate {run}": "{all} エポックのうち {done} まで終わりました。これまでの最良のモデル：python -m pbl evaluate {run}",
    "Confidence: {verdict}. With the temperature {temperature:.2f}, fitted {itself}: ECE {ece:.4f}, log loss {loss:.4f}.": "確信度：{verdict}。温度 {temperature:.2f}（{itself}調整）を使うと、ECE {ece:.4f}、対数損失 {loss:.4f} です。",
    "Suggested: learning_rate={suggestion:g} (now {now:g}).": "おすすめ：learning_rate={suggestion:g}（現在は {now:g}）。",
    "holds: {requirement} (is {value:.4f})": "条件を満たす：{requirement}（実際は {value:.4f}）",
    "FAILS: {requirement} (is {value:.4f})": "条件を満たさない：{requirement}（実際は {value:.4f}）",
    "{n} image(s) to leave out are named in {file}: python -m pbl train ... leave_out={file}": "除く画像 {n} 枚の名前を {file} に書きました：python -m pbl train ... leave_out={file}",
    "{reached} of {all} team(s) reach {requirements}.": "{all} 班のうち {reached} 班が {requirements} に達しました。",
    "metric": "指標",
    "value": "値",
    "Confusion matrix: rows are true classes, columns predicted ones.": "混同行列：行が正解のクラス、列が予測したクラスです。",
    "true \\ predicted": "正解 \\ 予測",
    "on these very images": "同じ検証画像で",
    "on validation": "検証画像で",
    "not calibrated": "較正されていない",
    "as calibrated as these images can tell": "この枚数でわかる限りでは較正されている",
    "Threshold: none reaches {aim} on validation.": "しきい値：検証で {aim} に達するものはありません。",
    "0.5 may be as good": "0.5 でも同じかもしれない",
    "0.5 is not it": "0.5 よりよい",
    "threshold {value:.2f}": "しきい値 {value:.2f}",
    "--require \"{text}\" is not of the form \"accuracy>=0.9\" (>=, >, <= or <).": "--require \"{text}\" は \"accuracy>=0.9\" の形ではありません（>=、>、<=、< が使えます）。",
    "pbl: stopped": "pbl：停止しました",
    "{what} See: {command} --help": "{what} くわしくは：{command} --help",
    "{n:,} {split}": "{split} {n:,} 枚",
    "Handwritten digits, 1,797 real grey images of 8x8 pixels, bundled with scikit-learn: no download.": "手書き数字。8x8 画素のグレースケール画像 1,797 枚。scikit-learn に付いているので、ダウンロードは不要。",
    # Titles of columns and rows
    "f1": "F値（F1）",
    "precision": "適合率",
    "recall": "再現率",
    "accuracy": "正解率",
    "balanced accuracy": "バランス正解率",
    "cost": "損失",
    "year": "年",
    "style": "スタイル",
    "at": "入力",
    "classes": "クラス数",
    "smallest side": "最小の一辺",
    "paper": "論文",
    "points": "点数",
    "tie group": "同順位",
    "accuracy (95% interval)": "正解率（95%信頼区間）",
    "architecture": "アーキテクチャ",
    "accuracy %": "正解率 %",
    "seeds from to": "シードごとの最小〜最大",
    "ties": "同順位",
    "best with probability": "最良である確率",
    "pre-trained": "事前学習",
    "yes": "あり",
    "no": "なし",
    "macro F1": "F値（マクロ F1）",
    "settings tried": "試した設定の数",
    "parameters": "重みの数",
    "training s": "学習時間（秒）",
    "s to target": "目標までの秒数",
    "latency of 1 image ms": "1枚の遅延（ミリ秒）",
    "images/s at 256": "1秒の枚数（256枚ずつ）",
    "peak memory MiB": "最大メモリ（MiB）",
    "file MiB": "ファイル（MiB）",
    "measured on": "測定した環境",
    "first": "1つ目",
    "second": "2つ目",
    "difference [points]": "差（ポイント）",
    "p (Holm)": "p（Holm）",
    "verdict": "判定",
    "would separate them": "差を示すのに必要な数",
    "only one right": "片方だけ正解",
    # Parts of a training, whose seconds are told
    "data": "データ",
    "build": "モデルの構築",
    "fit": "学習",
    "evaluate": "評価",
    "diagnosis": "診断",
    "monitor (in fit)": "学習のうちの測定",
}  # fmt: skip

HELP = {
    "Train, evaluate and use image classifiers with Keras. Start with: python -m pbl train": "Keras で画像分類モデルを学習し、評価し、使います。最初は：python -m pbl train",
    "Train one run, and evaluate it on validation. The same command goes on with a run that was cut off.": "1回の実験として学習し、検証用データで評価します。中断した実験は、同じコマンドで続きから学習します。",
    "An experiment file, or a run's folder for its very settings; experiments/digits_resnet20.py unless given.": "実験ファイル。実験のフォルダを指定すると同じ設定を使います。省略すると experiments/digits_resnet20.py。",
    "Settings to change, such as epochs=3 model_options.dropout=0.5.": "変更する設定。例：epochs=3 model_options.dropout=0.5",
    "Start anew although an unfinished run of these settings is there.": "同じ設定の終わっていない実験があっても、新しく始めます。",
    "One batch through all of it, to see that it runs; nothing is kept.": "1バッチだけ最後まで通し、動くかどうかを確かめます。何も保存しません。",
    "Can the model learn so many images (32) by heart? Nothing is kept.": "モデルがこの枚数（32など）の画像を丸暗記できるか試します。何も保存しません。",
    "One run for each combination of these settings, such as learning_rate=0.1,0.01.": "設定の組み合わせごとに1回ずつ学習します。例：learning_rate=0.1,0.01",
    "So many runs, with seeds that count up.": "この回数だけ、乱数シードを1ずつ増やして学習します。",
    "Would more data help? Train on 1/8, 1/4, 1/2 and all of the images.": "データを増やすと上がるかを調べます。画像の 1/8、1/4、1/2、全部で学習します。",
    "Where runs are kept; else the variable PBL_RUNS, else runs/.": "実験を保存する場所。省略すると変数 PBL_RUNS、それもなければ runs/。",
    "Try rising learning rates, and suggest one.": "学習率を少しずつ上げて試し、よい値を提案します。",
    "First learning rate; 1e-4 for SGD, 1e-6 for others.": "最初の学習率。SGD では 1e-4、ほかは 1e-6。",
    "Last learning rate; 3 for SGD, 0.3 for others.": "最後の学習率。SGD では 3、ほかは 0.3。",
    "Steps from the first to the last.": "最初から最後までのステップ数。",
    "Where the picture goes.": "図を書き込むファイル。",
    "Print JSON, for scripts.": "JSON で出力します（スクリプト用）。",
    "Evaluate a run's best model: metrics with confidence intervals, confusion matrix.": "実験の最良のモデルを評価します（信頼区間つきの評価指標、混同行列）。",
    "A run's folder, such as runs/digits_resnet20/001.": "実験のフォルダ。例：runs/digits_resnet20/001",
    "Which split. Each use of test is recorded in the run.": "どのデータで評価するか。test の使用は毎回、実験に記録されます。",
    "Another data set with the same classes, in place of the run's own.": "実験のデータの代わりに使う、同じクラスの別のデータセット。",
    "Folder of prepared TensorFlow Datasets.": "準備済みの TensorFlow Datasets のフォルダ。",
    "With two classes: whose precision, recall and F1 stand first.": "2クラスのとき：適合率・再現率・F値を先に示すクラス。",
    "With two classes: what the threshold is chosen for, on validation: f1, youden, recall>=0.95, precision>=0.9, or cost=1:5 (of a false positive : a false negative).": "2クラスのとき：検証用データでしきい値を選ぶ基準。f1, youden, recall>=0.95, precision>=0.9, cost=1:5（偽陽性：偽陰性の損失）。",
    "Exit with status 1 unless this holds, such as accuracy>=0.9 or macro.f1>0.8.": "満たさなければ終了ステータスを 1 にする条件。例：accuracy>=0.9 macro.f1>0.8",
    "Say what a run suffers from, such as overfitting, how sure that is, and what to try next.": "過学習など実験の問題点と、その確かさ、次に試すことを示します。",
    "Of the sentences; else the variable PBL_LANGUAGE, else the locale.": "表示する言語。省略すると変数 PBL_LANGUAGE、それもなければロケール。",
    "Compare runs, or train architectures with several seeds and compare them, saying no more than they support.": "実験を比べます。アーキテクチャを複数のシードで学習して比べることもでき、データから言えることだけを示します。",
    "Runs or folders of runs; with --train experiment files and KEY=VALUE for all.": "実験、または実験のフォルダ。--train のときは実験ファイルと、全体に共通の KEY=VALUE。",
    "Train the experiments first, seed by seed. The same command goes on.": "先に、シードを変えながら実験を学習します。同じコマンドで続きから学習します。",
    "With --train: each of these models, with its default options, in the experiment's place.": "実験のモデルの代わりに、これらのモデルを既定のオプションで使います（--train のとき）。",
    "With --train: runs of each, with seeds that count up.": "それぞれの実験の回数。シードを1ずつ増やします（--train のとき）。",
    "With --train: epochs of every run.": "すべての実験のエポック数（--train のとき）。",
    "With --train: minutes of every run, instead.": "エポック数の代わりに、すべての実験の学習時間（分）（--train のとき）。",
    "Which images; test is evaluated, and each use recorded, where it is not yet.": "どの画像で比べるか。test でまだ評価していないものは評価し、使用を記録します。",
    "The difference that matters to you, in points of accuracy.": "意味があるとみなす差（正解率のポイント）。",
    "Compare all with this architecture, in place of all pairs.": "すべての組の代わりに、このアーキテクチャとだけ比べます。",
    "The validation accuracy up to which training seconds are counted.": "この検証の正解率に達するまでの学習時間（秒）を数えます。",
    "Measure MACs, latency, throughput, memory and file of one run of each.": "それぞれ1つの実験について、MAC 演算数、遅延、スループット、メモリ、ファイルの大きさを測ります。",
    "Where results.csv, results.md and results.png go.": "results.csv、results.md、results.png を書き込むフォルダ。",
    "List all runs: what each changed against the run it came from, and what that gained.": "すべての実験を一覧にします（元の実験から何を変え、どれだけよくなったか）。",
    "Where the runs are kept; else the variable PBL_RUNS, else runs/.": "実験のあるフォルダ。省略すると変数 PBL_RUNS、それもなければ runs/。",
    "Draw what each run gained, with its interval.": "各実験でどれだけよくなったかを、信頼区間つきで図にします。",
    "Write the table to this file.": "表を書き込むファイル。",
    "Put all that a run holds on one page: scores, diagnosis, pictures, data, settings, cost, environment.": "実験の内容を1ページにまとめます（成績、診断、図、データ、設定、計算コスト、環境）。",
    "A run's folder; with --team the folder of all runs, runs/ unless given.": "実験のフォルダ。--team のときはすべての実験があるフォルダ（省略すると runs/）。",
    "A draft of the team's report, of all runs, with boxes for what only you can write.": "すべての実験から班のレポートの下書きを作ります。自分たちで書くところは枠になっています。",
    "Where the page goes; report.html in the run, team_report.html in the folder.": "ページを書き込むファイル。省略すると実験の report.html、またはフォルダの team_report.html。",
    "Predict the class of image files.": "画像ファイルのクラスを予測します。",
    "Image files, or folders of them.": "画像ファイル、または画像のフォルダ。",
    "Write the table, with every class's probability, to this file.": "全クラスの確率つきの表を書き込むファイル。",
    "Draw what a run's network looks at: filters, feature maps, Grad-CAM or attention, and its loss on the way.": "ネットワークが見ているものを図にします（フィルタ、特徴マップ、Grad-CAM かアテンション、学習の道筋での損失）。",
    "Image files, or folders of them; the worst mistakes of validation and some right ones unless given.": "画像ファイル、または画像のフォルダ。省略すると、検証で最もひどく間違えた画像と、いくつかの正解した画像。",
    "Look for faults in a data set: broken, copied, leaking, unbalanced, shifted or mislabelled images.": "データセットの問題を探します（壊れた画像、複製、データリーク、クラスの偏り、分布のずれ、ラベルの誤り）。",
    "A data set: a name, a folder, a .zip or an .npz; or a run, for its data and settings.": "データセット（名前、フォルダ、.zip、.npz）。実験を指定すると、そのデータと設定。",
    "Settings of the data, such as image_size=96 groups='(patient[0-9]+)'.": "データの設定。例：image_size=96 groups='(patient[0-9]+)'",
    "Where data_check.json and the pictures go; data_check/NAME unless given.": "data_check.json と図を書き込むフォルダ。省略すると data_check/名前。",
    "Write the names of images to leave out, for leave_out=FILE. Nothing is deleted.": "除く画像の名前を書き込むファイル（leave_out=FILE で使います）。画像は消しません。",
    "Only what takes seconds, as before every training.": "数秒で終わる検査だけを行います（学習の前の検査と同じ）。",
    "List the models, or describe one.": "モデルの一覧、または1つのモデルの説明を示します。",
    "Show what this model's options mean.": "このモデルのオプションの意味を示します。",
    "List the data sets.": "データセットの一覧を示します。",
    "Make an instructor's hidden test set: a public part, hidden images, and their labels apart.": "教員用の非公開テストデータを作ります（公開する部分、非公開の画像、別にしたラベル）。",
    "A data set: a name, a folder, a .zip or an .npz.": "データセット（名前、フォルダ、.zip、.npz）。",
    "Share of each class that is hidden; 1 hides all, and nothing is public.": "各クラスのうち非公開にする割合。1 ですべて非公開にし、公開する部分はなくなります。",
    "The folder to make; holdout/NAME unless given.": "作るフォルダ。省略すると holdout/名前。",
    "Hide the source's own test split in place of a share.": "割合で分ける代わりに、データに付いているテストデータを非公開にします。",
    "Images whose names share this word stay on one side, as in training.": "この言葉が名前に共通する画像は、学習のときと同じように同じ側に入れます。",
    "The public part as one .zip.": "公開する部分を1つの .zip にします。",
    "Make and grade submissions that show the scale of grades; takes minutes.": "成績の目安になる参考の提出物を作り、採点します（数分かかります）。",
    "Of choice and names; random unless given.": "選び方と名前の乱数シード。省略すると毎回変わります。",
    "Write what a team hands in, checked here as the grader checks it.": "班の提出物を書き出します。採点プログラムと同じ検査をここで行います。",
    "Your team's name.": "班の名前。",
    "The file to hand in; TEAM.zip unless given.": "提出するファイル。省略すると班の名前.zip。",
    "Hand in model.keras, of Keras's own layers, rather than weights.": "重みの代わりに、Keras の層だけでできた model.keras を提出します。",
    "Hand in the classes of these hidden images rather than a model.": "モデルの代わりに、これらの非公開の画像のクラスを提出します。",
    "Grade a class on hidden images: one row for every team, none trusted, nothing lost.": "非公開の画像でクラス全体を採点します（すべての班に1行ずつ、どの提出物も信用せず、何も失わない）。",
    "A folder with one folder or file for each team, a download of Moodle or Google Classroom, or one submission.": "班ごとに1つのフォルダかファイルがあるフォルダ、Moodle や Google Classroom からダウンロードしたもの、または1つの提出物。",
    "The hidden set: a folder that `holdout` made.": "非公開データ（`holdout` が作ったフォルダ）。",
    "Where the tables go. The same command again goes on there.": "表を書き込むフォルダ。同じコマンドで続きから採点します。",
    "The expected teams; each gets a row, whatever it sent.": "班の名簿。何も出していない班も1行になります。",
    "Points, deadline, allowed builders: rubric = Rubric(...).": "点数、締め切り、許可したモデルの関数：rubric = Rubric(...)。",
    "The labels, where they are not in HIDDEN.": "ラベルが HIDDEN の中にないときの場所。",
    "Run the models; no labels are needed on this machine.": "モデルを動かすだけにします。このマシンにラベルはいりません。",
    "Score what --predict-only left; no model is run on this machine.": "--predict-only の結果を採点します。このマシンではモデルを動かしません。",
    "Submissions at the same time.": "同時に採点する提出物の数。",
    "Time limit of each submission.": "1つの提出物にかけてよい秒数。",
    "Memory limit of each, in MB, beyond TensorFlow's own.": "1つの提出物が使ってよいメモリ（MB、TensorFlow 自身の分を除く）。",
    "full: refuse where this machine cannot lock submissions up; limits: go on without.": "full：隔離できないマシンでは採点しません。limits：隔離なしでも続けます。",
    "Score one half of the hidden images; public: a leaderboard of coarse scores.": "非公開の画像の半分で採点します。public：大まかな成績のリーダーボード。",
    "Of a leaderboard: scores that a team is told.": "リーダーボードで、1つの班に知らせる成績の回数。",
    "Grade this team again though nothing changed.": "変わっていなくても、この班を採点し直します。",
    "Exit with status 1 unless every team reaches it, such as accuracy>=0.9.": "すべての班が達しなければ終了ステータスを 1 にする条件。例：accuracy>=0.9",
    "Of the teams' feedback; else the variable PBL_LANGUAGE, else the locale.": "班へのフィードバックの言語。省略すると変数 PBL_LANGUAGE、それもなければロケール。",
}  # fmt: skip

# What typer says of wrong words, of its versions from 0.20 on, and how that is said in Japanese.
WRONG_WORDS = (
    (r"Missing (?:argument|parameter):? '?(?P<name>[^'.]+)'?\..*", "引数 {name} が足りません。"),
    (r"Missing option '(?P<name>[^']+)'\..*", "オプション {name} が必要です。"),
    (
        r"No such command '(?P<name>.*)'\. Did you mean (?P<near>.+)\?",
        "{name} というコマンドはありません。{near} のことですか。",
    ),
    (r"No such command '(?P<name>.*)'\.", "{name} というコマンドはありません。"),
    (
        r"No such option: (?P<name>\S+) \(Possible options: (?P<near>.+)\)",
        "{name} というオプションはありません。{near} のことですか。",
    ),
    (
        r"No such option: (?P<name>\S+) Did you mean (?P<near>.+)\?",
        "{name} というオプションはありません。{near} のことですか。",
    ),
    (r"No such option: (?P<name>\S+)", "{name} というオプションはありません。"),
    (r"Option '(?P<name>.+)' requires an argument\.", "オプション {name} には値が必要です。"),
    (r"Option '(?P<name>.+)' does not take a value\.", "オプション {name} に値は付けられません。"),
    (r"Got unexpected extra argument\(s\) \((?P<name>.*)\)", "引数が多すぎます（{name}）。"),
    (r"Missing command\.", "コマンドを指定してください。"),
    (r"Invalid value for (?P<name>.+?): (?:Value error, )?(?P<reason>.+)", "{name} の値が正しくありません：{reason}"),
    # The reason
    (r"'(?P<value>.*)' is not one of (?P<valid>.+?)\.?", "'{value}' は使えません。使えるのは {valid} です。"),
    (r"'(?P<value>.*)' is not a valid (?:int(?:eger)?)(?: range)?\.", "'{value}' は整数ではありません。"),
    (r"'(?P<value>.*)' is not a valid float(?: range)?\.", "'{value}' は数ではありません。"),
    (r"Input should be a valid integer.*", "整数にしてください。"),
    (r"Input should be a valid number.*", "数にしてください。"),
    (r"Input should be greater than or equal to (?P<value>\S+)", "{value} 以上にしてください。"),
    (r"Input should be less than or equal to (?P<value>\S+)", "{value} 以下にしてください。"),
    (r"(?P<value>\S+) is not in the range (?P<valid>.+?)\.", "{value} は範囲 {valid} の外です。"),
)


def say_wrong_words(message: str) -> str:
    """Says in Japanese what typer says of wrong words; what is not known, as it is."""
    for pattern, japanese in WRONG_WORDS:
        if found := re.fullmatch(pattern, message, re.DOTALL):
            fields = found.groupdict()
            if "reason" in fields:
                fields["reason"] = say_wrong_words(fields["reason"])
            return japanese.format(**fields)
    return message


def translate_help(command: Any) -> None:
    """Puts a command's help, with that of its own commands, into Japanese, typer's own words included.

    Args:
        command: What `typer.main.get_command` gives.
    """
    from rich.table import Column, Table
    from typer import rich_utils  # which shows the help: nothing more is loaded

    # A line without spaces is folded, not cut off with "...".
    Column.__init__.__defaults__ = tuple(
        "fold" if value == "ellipsis" else value for value in Column.__init__.__defaults__
    )
    Table.add_column.__kwdefaults__["overflow"] = "fold"

    rich_utils.ARGUMENTS_PANEL_TITLE = "引数"
    rich_utils.OPTIONS_PANEL_TITLE = "オプション"
    rich_utils.COMMANDS_PANEL_TITLE = "コマンド"
    rich_utils.DEFAULT_STRING = "[既定値：{}]"
    rich_utils.REQUIRED_LONG_STRING = "[必須]"
    for one in (command, *getattr(command, "commands", {}).values()):
        one.help = HELP.get(one.help, one.help)
        one.options_metavar = "[オプション]"
        one.subcommand_metavar = "コマンド [引数]..."
        one.format_usage = functools.partial(_format_usage, one)
        one.get_help_option = functools.partial(_get_help_option, one.get_help_option)
        for parameter in one.params:
            parameter.help = HELP.get(getattr(parameter, "help", None), getattr(parameter, "help", None))


def _format_usage(command: Any, context: Any, formatter: Any) -> None:
    formatter.write_usage(context.command_path, " ".join(command.collect_usage_pieces(context)), prefix="使い方：")


def _get_help_option(original: Any, context: Any) -> Any:
    option = original(context)
    if option is not None:
        option.help = "この説明を表示します。"
    return option
