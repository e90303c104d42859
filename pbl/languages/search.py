"""Of a search for settings, and of workers, in Japanese."""

SEARCH = {
    # training/space.py
    "'{word}' is not of the form key=low..high, key=log:low..high or key=a,b, such as learning_rate=log:1e-3..0.3.": "「{word}」は key=下限..上限、key=log:下限..上限、key=a,b のどの形でもありません。例：learning_rate=log:1e-3..0.3",
    "'{word}' leaves nothing to search: {key} has one value. Give several, or set it beside the search: {word}": "「{word}」では探すものがありません。{key} の値が1つだけです。いくつか書くか、探索の外で設定してください：{word}",
    "'{word}': a range goes from one number to another, such as {key}=0.001..0.3.": "「{word}」：範囲は数から数までで書きます。例：{key}=0.001..0.3",
    "'{word}': the range is empty, since {low:g} is not below {high:g}. Write the lower number first.": "「{word}」：{low:g} は {high:g} より小さくないので、範囲が空です。小さいほうを先に書いてください。",
    "'{word}': there is no logarithm of {low:g}: log: needs numbers above 0. Begin above 0, or leave log: out.": "「{word}」：{low:g} の対数はありません。log: には 0 より大きい数が必要です。下限を 0 より大きくするか、log: を外してください。",
    "'{word}': {key} is a whole number, and so must be the ends of its range, such as {key}={low}..{high}.": "「{word}」：{key} は整数なので、範囲の両端も整数にしてください。例：{key}={low}..{high}",
    "'{word}': {key} is no number, so that there is no range of it. Give its values: {key}=a,b": "「{word}」：{key} は数ではないので、範囲では書けません。値を並べてください：{key}=a,b",
    "'{word}': {key} is not searched, since trials of other values could not be compared. Set it for all: {key}={now}": "「{word}」：{key} は探せません。値の違う試行どうしを比べられないからです。全体で1つに決めてください：{key}={now}",
    'The search names no setting. Give such as --search "learning_rate=log:1e-3..0.3".': "探す設定がありません。例：--search \"learning_rate=log:1e-3..0.3\"",
    # training/study.py
    '--search needs the package optuna, which is not installed: pip install "optuna>=4.3"': '--search にはパッケージ optuna が必要ですが、入っていません：pip install "optuna>=4.3"',
    "--trials {trials}: give how many trials there are to be, 1 or more.": "--trials {trials}：試行の数を1以上で指定してください。",
    "--minutes {minutes:g}: give minutes above 0.": "--minutes {minutes:g}：0 より大きい分数を指定してください。",
    "The space has {settings} settings, and {trials} trials are no fewer. Train each once: --sweep, with the values in place of ranges.": "探す範囲には設定が {settings} 通りしかなく、試行 {trials} 回で足ります。範囲の代わりに値を並べ、--sweep でそれぞれ1回ずつ学習してください。",
    "{file} is damaged ({reason}). Put it back from a copy, or move it away: then the search begins anew, and no run is lost.": "{file} が壊れています（{reason}）。コピーから戻すか、別の場所に移してください。移すと探索は最初からになりますが、学習の結果は失われません。",
    '{file} holds a study of another space: "{space}". Give that, or another name for the new one: experiment=NAME': "{file} には別の範囲の探索があります：「{space}」。その範囲を指定するか、新しい探索に別の名前を付けてください：experiment=NAME",
    "{file} holds a study with {key}={before}, and now it is {now}. Give that, or another name for the new one: experiment=NAME": "{file} の探索では {key}={before} でしたが、今は {now} です。前と同じにするか、新しい探索に別の名前を付けてください：experiment=NAME",
    "Trial {number} of {all}: {settings}": "試行 {all} 回中 {number} 回目：{settings}",
    "Other processes train the last trials: waiting for them.": "残りの試行はほかのプロセスが学習しています。終わるのを待ちます。",
    "The best {n} settings are trained with {seeds} seeds each. Then one is called the best.": "上位 {n} 個の設定を、それぞれシード {seeds} 個で学習します。そのあとで最良のものを決めます。",
    "The first {n} trials all failed; the last one so: {reason} Mend that, and move {file} away.": "最初の試行 {n} 回がすべて失敗しました。最後の失敗：{reason} 原因を直し、{file} を別の場所に移してください。",
    "metrics_val.json holds no score": "metrics_val.json に評価値がありません",
    "The best by the mean over {n} seeds is trial {trial}: {settings}. Its score: {claimed} in the trial, {mean} as that mean, {new} with the new seeds alone.": "シード {n} 個の平均で最良なのは試行 {trial} です：{settings}。評価値は、試行では {claimed}、この平均では {mean}、新しいシードだけでは {new} です。",
    "The score of a trial, {claimed}, must be expected to be too high: it is the luckiest of {finished} finished trials, chosen by these very {images:,} validation images. New seeds remove the luck of the training, but not that of the images. Only the test split tells the truth, used once at the end: python -m pbl evaluate {run} --split test": "試行の評価値 {claimed} は、高めに出ていると考えてください。終わった試行 {finished} 回の中から、この検証画像 {images:,} 枚で運よく高かったものを選んだからです。新しいシードで除けるのは学習の運だけで、画像の運は残ります。本当の値は、最後に1回だけ使うテスト画像で確かめてください：python -m pbl evaluate {run} --split test",
    # training/session.py
    "Pruned after epoch {epoch}: other trials were better by then. train with these settings resumes {run}.": "エポック {epoch} で打ち切りました。ほかの試行のほうが、そこまででよい結果です。同じ設定で train を実行すると、{run} の続きから学習します。",
    # training/workers.py
    "--workers {count}: give how many trainings run at once, 1 to 64.": "--workers {count}：同時に学習する数を1〜64で指定してください。",
    "Worker {number} was killed (signal {signal}). Another process resumes its run.": "ワーカー {number} が強制終了しました（シグナル {signal}）。その学習は別のプロセスが続きから行います。",
    # training/study_figures.py
    "{experiment}: search": "{experiment}：探索",
    "{experiment}: scores by setting": "{experiment}：設定ごとの評価値",
    "{experiment}: importance of the settings": "{experiment}：設定の重要度",
    "validation score": "検証の評価値",
    "the best so far": "それまでの最良",
    "trial": "試行",
    "share of the variance of the finished trials' scores (fANOVA)": "終わった試行の評価値の分散のうち、説明できる割合（fANOVA）",
    # cli
    "--trials, --minutes and --pruner are for --search.": "--trials、--minutes、--pruner は --search といっしょに使います。",
    "--workers is for several runs: --sweep, --seeds, --search or --learning-curve.": "--workers は何回も学習するとき（--sweep、--seeds、--search、--learning-curve）に使います。",
    "{trials} trials: {finished} finished, {pruned} pruned, {failed} failed.": "試行 {trials} 回：終了 {finished} 回、打ち切り {pruned} 回、失敗 {failed} 回。",
    "No trial has finished: give more of them, or another space.": "最後まで学習した試行がありません。試行を増やすか、別の範囲にしてください。",
    "Pictures: {files}": "図：{files}",
}  # fmt: skip
