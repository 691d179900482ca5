"""Keys of published PyCIL, LAMDA-PILOT and SSIAT experiment files that are written otherwise here, or not used."""

# a key of the published files → the key that means the same here
ALIASES = {
    "backbone_type": "convnet_type",
    "init_epoch": "init_epochs",
    "later_epochs": "inc_epochs",
    "later_lr": "inc_lr",
    "M": "rp_size",
    "bcb_lrscale": "bcb_lr_scale",
    "alpha": "subspace_weight",
    "size": "prompt_pool_size",
    "length": "prompt_length",
    "top_k": "prompt_top_k",
    "crct_epochs": "ca_epochs",
    "num_workers": "workers",
    "scheduler": "schedule",
}

# a key of the published files → what else it says, where the same file does not
IMPLIED = {"alpha": {"published_subspace_weight": True}}

# a key of the published files → the keys it stands for where they are not given themselves: PILOT's `tuned_epoch` is
# the length of every training phase of a method; `epochs` and `lrate` are those of later sessions, of all if alone
SHORTHANDS = {
    "tuned_epoch": ("inc_epochs", "init_epochs"),
    "epochs": ("inc_epochs", "init_epochs"),
    "lrate": ("inc_lr", "init_lr"),
}

# what belongs to methods and trainers that are not here, or is decided otherwise
_UNUSED = """
adapter_num alpha_aux attn_num_heads aug aux_factor backbone_type_cnn backbone_type_vit batchwise_prompt beta beta1
beta2 boosting_epochs buffer_size c_rate_list ca_lr ca_storage_efficient_method ca_storage_efficient_method_choices
calibration_term compensation_ratio compression_epochs configurations contrast_factor contrast_kd_factor debug decay
down_sample_dim drop drop_path ema_decay embedding_key energy_weight ensemble epc_re eq_prot expansion_epochs
finetune_lr fisher_weighting freeze fusion_epochs gamma gamma_comp gammar_r get_original_backbone get_original_convnet
global_pool head_merge_ratio head_type IL_batch_size infonce_kd_temp infonce_temp init_batch_size
init_interpolation_factor init_lr_decay init_milestones init_weight_decay initializer inplace_repeat is_compress
is_distributed is_student_wa is_teacher_wa kd_temp lambda lambda_fkd lambda_okd lambda_proto lda logits_alignment lr
lr_re lrate_decay m m_rate_list merge_scalar milestones mode model_postfix moni_adam n_centroids norm_term
num_freeze_epochs num_views oofc ot_reg pet_cls pet_length predefined_key pretrained proj_hidden_dim proj_output_dim
prompt_key prompt_key_init prompt_pool prompt_token_num pull_constraint r ratio recalc_sim reduce_batch_size reg
reg_term reinit_optimizer same_key_value shared_prompt_key shared_prompt_pool sinkhorn skip step_size T t_max
ta_convnet_type temp threshold total_class_num train_adaptive train_base trained_epoch trans_cls_factor
transfer_factor tuned_epoch_cnn tuned_epoch_vit use_diagonal use_e_prompt use_g_prompt use_init_ptm use_old_data
use_orth use_prefix_tune_for_e_prompt use_prefix_tune_for_g_prompt use_prompt_mask use_reweight use_RP use_simplecil
vpt_type wa_value wb-project wt_lambda
"""
UNUSED_KEYS = frozenset(_UNUSED.split())
