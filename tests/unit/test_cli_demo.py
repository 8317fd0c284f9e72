from msgspec.structs import replace

from jobsvc.cli.demo import Counts, read_posts
from jobsvc.domain.keys import key_from_url

RIGHT = Counts(submitted=66, distinct_posts=44, jobs=44, deduplicated=22, completed=44, active=0)


def test_a_third_of_the_shipped_posts_are_other_spellings_of_earlier_ones() -> None:
    """
    No line stands twice, and each spelling of a post comes after the post.
    """
    posts = read_posts()

    keys = [key_from_url(post, profile="x-post") for post in posts]

    assert len(posts) >= 60
    assert len(posts) == len(set(posts))
    assert len(posts) == 3 * (len(keys) - len(set(keys)))
    assert all(key.startswith("x:post:") for key in keys)


def test_right_counts_have_nothing_wrong_with_them() -> None:
    """
    As many jobs as posts, all completed, none left.
    """
    assert [] == RIGHT.wrong


def test_each_wrong_count_is_named() -> None:
    """
    Whichever count is off, the demo says which and what it should be.
    """
    one_job_too_many = replace(RIGHT, jobs=45)
    one_not_completed = replace(RIGHT, completed=43)
    one_left = replace(RIGHT, active=1)
    one_not_deduplicated = replace(RIGHT, deduplicated=21)

    assert "jobs = 45, but there are 44 distinct posts" == one_job_too_many.wrong[0]
    assert ["completed = 43, want 44"] == one_not_completed.wrong
    assert ["active = 1, want 0"] == one_left.wrong
    assert ["deduplicated = 21, want 22"] == one_not_deduplicated.wrong
