"""Groups of operations, of which some are applied to each image."""

from typing import Any

from recipes.augment.engine.operation import Frame, Operation, leaves


class Group(Operation):
    """Base of the groups: a list of `operations`, of which some are applied to each image.

    All members run in the same pass, in the order of the stages, and are switched on for single images. So a group
    costs as much as all its members in one pass.
    """

    operations: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        members = list(self.operations) if isinstance(self.operations, (list, tuple)) else []
        if not members or not all(isinstance(member, Operation) for member in members):
            raise ValueError(
                f"augment.{self.name} expects a list of operations. Received {self.operations!r}. "
                f"Write for example {self.name}([augment.Rotate(10), augment.Shear(0.1)])."
            )
        if any(type(member).__name__ == "Normalize" for member in members):
            raise ValueError(
                f"augment.{self.name} expects operations that only some images get. Received a Normalize. "
                "Put Normalize into the pipeline itself, after the group."
            )
        self.operations = members

    def check(self, frame: Frame) -> None:
        fills = []
        for member in self.operations:
            after = member.after(frame)
            if (after.height, after.width) != (frame.height, frame.width):
                raise ValueError(
                    f"augment.{self.name} expects operations that keep the size of the image. Received {member!r} "
                    f"for images of {frame.height}x{frame.width}. Put it into the pipeline itself, before the group."
                )
            for leaf in leaves(member):
                if leaf.stage == "geometry" and leaf.fill is not None and leaf.fill not in fills:
                    fills.append(leaf.fill)
        if len(fills) > 1:
            raise ValueError(
                f"augment.{self.name} expects one fill for all operations that move pixels. Received {fills}. "
                "Give every geometric operation of the group the same fill=."
            )
