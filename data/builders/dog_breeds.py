"""Which ImageNet classes are which dogs: 99 breeds in 14 groups.

The breeds, their names and the groups are those of the published study of knowledge tracing (Tan & Gong 2025, case
study on dogs); the groups follow WordNet. Written here as `wnid name | other names`, the latter WordNet's.
"""

BREEDS = {
    "toy dog": """
        n02085620 Chihuahua
        n02085782 Japanese spaniel | Japanese Chin
        n02085936 Maltese | Maltese dog | Maltese terrier
        n02086079 Pekingese | Pekinese | Peke
        n02086240 Shih-Tzu | Shih Tzu
        n02086646 Blenheim spaniel | King Charles Spaniel
        n02086910 papillon
        n02087046 toy terrier
    """,
    "hound": """
        n02088094 Afghan hound | Afghan
        n02088238 basset hound | basset
        n02088364 beagle
        n02088466 bloodhound | sleuthhound
        n02088632 bluetick | Bluetick Coonhound
        n02089078 black-and-tan coonhound
        n02089867 Walker foxhound | Walker hound
        n02089973 English foxhound
        n02090379 redbone | Redbone Coonhound
        n02090622 borzoi | Russian wolfhound
        n02090721 Irish wolfhound
        n02091032 Italian greyhound
        n02091134 whippet
        n02091244 Ibizan hound | Ibizan Podenco
        n02091467 Norwegian elkhound | elkhound
        n02091635 otterhound | otter hound
        n02091831 Saluki | gazelle hound
        n02092002 Scottish deerhound | deerhound
        n02092339 Weimaraner
    """,
    "terrier": """
        n02093256 Staffordshire bull terrier | Staffordshire bullterrier
        n02093428 American Staffordshire terrier | Staffordshire terrier | American pit bull terrier
        n02093647 Bedlington terrier
        n02093754 Border terrier
        n02093859 Kerry blue terrier
        n02093991 Irish terrier
        n02094114 Norfolk terrier
        n02094258 Norwich terrier
        n02094433 Yorkshire terrier
        n02095314 wire-haired fox terrier | Wire Fox Terrier
        n02095570 Lakeland terrier
        n02095889 Sealyham terrier | Sealyham
        n02096051 Airedale terrier | Airedale
        n02096177 cairn terrier | cairn
        n02096294 Australian terrier
        n02096437 Dandie Dinmont terrier | Dandie Dinmont
        n02096585 Boston terrier | Boston bull
        n02097047 miniature schnauzer
        n02097130 giant schnauzer
        n02097209 standard schnauzer
        n02097298 Scottish terrier | Scotch terrier | Scottie
        n02097474 Tibetan terrier | chrysanthemum dog
        n02097658 silky terrier | Sydney silky
        n02098105 soft-coated wheaten terrier
        n02098286 West Highland white terrier
    """,
    "retriever": """
        n02099267 flat-coated retriever
        n02099429 curly-coated retriever
        n02099601 golden retriever
        n02099712 Labrador retriever
        n02099849 Chesapeake Bay retriever
    """,
    "pointer": """
        n02100236 German short-haired pointer
        n02100583 vizsla | Hungarian pointer
    """,
    "setter": """
        n02100735 English setter
        n02100877 Irish setter | red setter
        n02101006 Gordon setter
    """,
    "spaniel": """
        n02101388 Brittany spaniel
        n02101556 clumber spaniel | clumber
        n02102040 English springer spaniel | English springer
        n02102177 Welsh springer spaniel
        n02102318 cocker spaniel | English cocker spaniel
        n02102480 Sussex spaniel
        n02102973 Irish water spaniel
    """,
    "shepherd dog": """
        n02105056 groenendael
        n02105162 malinois
        n02105251 briard
        n02105412 kelpie
        n02105505 komondor
        n02105641 Old English sheepdog | bobtail
        n02105855 Shetland sheepdog | Shetland
        n02106030 collie
        n02106166 Border collie
        n02106382 Bouvier des Flandres
        n02106550 Rottweiler
        n02106662 German shepherd dog | German shepherd | alsatian
    """,
    "pinscher": """
        n02107142 Doberman | Doberman pinscher
        n02107312 miniature pinscher
        n02110627 affenpinscher | monkey pinscher
    """,
    "sennenhunde": """
        n02107574 Greater Swiss Mountain dog
        n02107683 Bernese mountain dog
        n02107908 Appenzeller
        n02108000 EntleBucher
    """,
    "sled dog": """
        n02110063 Alaskan malamute | malamute
        n02110185 Siberian husky
    """,
    "spitz": """
        n02111889 Samoyed
        n02112018 Pomeranian
        n02112137 chow chow | chow
        n02112350 keeshond
    """,
    "corgi": """
        n02113023 Pembroke | Pembroke Welsh corgi
        n02113186 Cardigan | Cardigan Welsh corgi
    """,
    "poodle dog": """
        n02113624 toy poodle
        n02113712 miniature poodle
        n02113799 standard poodle
    """,
}


def breeds() -> dict[str, tuple[str, str, list[str]]]:
    """Wnid → (group, breed, other names), sorted by wnid."""
    table = {}
    for group, rows in BREEDS.items():
        for row in rows.strip().splitlines():
            wnid, _, names = row.strip().partition(" ")
            breed, *others = names.split(" | ")
            table[wnid] = (group, breed, others)
    return dict(sorted(table.items()))
