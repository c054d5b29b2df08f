from stage_fixtures import at_step, tiny, toy_backbone, untouched_global_state

__all__ = ["at_step", "tiny", "toy_backbone", "untouched_global_state"]
