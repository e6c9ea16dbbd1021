"""An executor that has no thread."""

from concurrent.futures import Future

from eigenfeatures.export.batch.engine import DeviceMemoryError


class AtOnce:
    """Do what is submitted before going on."""

    def submit(self, function, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except DeviceMemoryError as error:
            future.set_exception(error)
        return future
