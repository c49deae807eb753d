"""The names of the pictures of a case in its results, for those that link them and need no library that draws."""

#: The page from image to soft labels.
PICTURE = "montage.png"
#: The small picture for the report.
THUMBNAIL = "thumbnail.png"
