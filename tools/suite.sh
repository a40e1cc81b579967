#!/bin/sh
# The suite, beside each other on three workers: sh tools/suite.sh [pytest's words]. With SECOND_LOOK=1, as in .ci/run, at
# most three tests that failed in company run once more, alone; what fails again fails the suite, and what does not is
# named, for somebody to find out why. More than three are no bad luck.
words="sh tools/with_env.sh dev -m pytest"
# Three on two cores: most tests wait for something. With four those that measure time begin to feel their neighbours.
$words -n 3 --dist loadgroup "$@"
status=$?
failed=.pytest_cache/v/cache/lastfailed
if [ $status -ne 1 ] || [ "${SECOND_LOOK:-}" != 1 ] || [ ! -e $failed ]; then
    exit $status
fi
count=$(grep -c '"' $failed)
echo "suite: failed in company: $count"
cat $failed
if [ "$count" -gt 3 ]; then
    exit $status
fi
echo "suite: once more, alone"
exec $words --last-failed --last-failed-no-failures none "$@"
