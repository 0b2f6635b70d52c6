"""A user's script with nothing wrong in it: type checkers have nothing to say."""

import numpy as np

import recipes
from recipes import augment, callbacks, explain, models, plot, schedules

images = np.zeros((64, 32, 32, 3), "uint8")
labels = np.zeros(64, "int64")
model = models.resnet((32, 32, 3), 10, depth=14)
pipeline = augment.Pipeline([augment.Flip(), augment.PadCrop(4)], value_range=(0, 255), classes=10, seed=1)
run = recipes.train(
    model,
    (images, labels),
    (images, labels),
    epochs=3,
    learning_rate=0.2,
    schedule="cosine",
    augment=pipeline,
    early_stopping=5,
    run_dir="runs/a",
    resume=True,
)
losses: list[float] = run.history["loss"]
for finding in run.findings:
    print(finding.severity, finding.remedy)
run.report("report.html")
again: recipes.Run = recipes.load_run("runs/a")
maps = explain.grad_cam(model, images[:4], 3, layer="conv", relu=True)
more = explain.integrated_gradients(model, images[:4], steps=20, batch_size=16)
plot.overlay(images[0], np.asarray(maps)[0]).savefig("map.png")
print(maps.shape, explain.saliency(model, images, explain.Unit("conv", 3)).mean())
both, delta = explain.integrated_gradients(model, images, return_convergence_delta=True)
plot.grid(images[:2], maps=[None, maps[0]], titles=labels[:2].tolist())
picture, scores = explain.class_image(model, [0, 1], steps=4, return_scores=True)
print(explain.pgd(model, images, labels, epsilon=8, value_range=(0, 255), norm="l2").max())
model.fit(
    images,
    labels,
    epochs=2,
    callbacks=[
        callbacks.WarmupDecay(warmup=0.1, decay="linear"),
        callbacks.NonFiniteGuard(every_steps=10),
        callbacks.ExponentialMovingAverage(0.99),
    ],
)
rate: float = float(schedules.Cosine(0.1, 1000)(10))
