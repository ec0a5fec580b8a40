"""What tests of pictures share."""

from labkit.figures.picture import Picture


def outside(picture: Picture) -> float:
    """How far something of a picture is outside of it, in inches; below 0 where nothing is."""
    picture.svg()  # which lays it out
    drawn, paper = picture.figure.get_tightbbox(), picture.figure.bbox_inches
    return max(-drawn.x0, -drawn.y0, drawn.x1 - paper.x1, drawn.y1 - paper.y1)
